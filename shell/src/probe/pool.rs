//! Which of the configured reflectors are pinged: a choice by their health, and by nothing else.
//!
//! A *member* is a configured reflector, a *slot* a place among those that are pinged. A member that
//! is silent, loses answers, is slow or jittery *beside its fellows* gives its slot to a spare and
//! rests. What all of them have in common is the line's doing and is held against nobody. The
//! machine is pure: times are passed in, in ns of [`crate::clock::now_nanos`].

use heapless::Vec;
use wanctl_core::tick::MAX_REFLECTORS;

/// The most reflectors that can be configured for a WAN.
pub(crate) const MEMBERS_MAX: usize = 16;

const SECOND_NS: u64 = 1_000_000_000;
/// Silence that costs the slot while others answer, or lets spares be tried when nobody does.
const SILENT_NS: u64 = 3 * SECOND_NS;
/// The line answers while the latest answer of anybody is younger than this.
const ALIVE_NS: u64 = SECOND_NS;
/// Members are compared over windows of this length.
const WINDOW_NS: u64 = 10 * SECOND_NS;
/// So many bad windows in a row cost the slot.
const BAD_WINDOWS: u8 = 3;
/// A window with fewer probes than this says nothing.
const PROBES_MIN: u32 = 20;
/// Loss beyond that of the best fellow that is bad, in permille.
const LOSS_MORE: u32 = 100;
/// Least round-trip time beyond that of the fastest fellow that is bad, if it is half as much again.
const SLOWER_NS: u64 = 30_000_000;
/// Jitter beyond that of the calmest fellow that is bad, if it is three times as much.
const JITTER_MORE_NS: u64 = 5_000_000;
/// How long a member rests that has lost its slot; twice as long each time, up to eight times.
const REST_NS: u64 = 600 * SECOND_NS;
/// While nobody answers, one of so many probes tries a spare.
const SCOUT_EVERY: u32 = 20;

/// Why a member has lost its slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reason {
    /// No answer while others answer.
    Silent,
    /// More answers are missing than of others.
    Lossy,
    /// Its answers take longer than those of others.
    Slow,
    /// Its round-trip time varies more than that of others.
    Jittery,
}

impl Reason {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Silent => "it is silent and others answer",
            Self::Lossy => "it loses more than others",
            Self::Slow => "it is slower than others",
            Self::Jittery => "its delay varies more than that of others",
        }
    }
}

/// A slot that another member has now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Replacement {
    pub(crate) slot: usize,
    pub(crate) old: usize,
    pub(crate) new: usize,
    pub(crate) why: Reason,
}

/// Whom a probe is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Aim {
    pub(crate) member: usize,
    /// Whether it tries a spare because nobody answers; nobody is told of its end then.
    pub(crate) is_scout: bool,
}

/// What a window has shown.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Health {
    /// Answers that are missing, in permille.
    pub(crate) loss_permille: u32,
    /// The least round-trip time.
    pub(crate) least_ns: u64,
    /// Mean difference of successive round-trip times.
    pub(crate) jitter_ns: u64,
}

#[derive(Debug, Clone, Copy, Default)]
struct Window {
    answered: u32,
    lost: u32,
    least_ns: Option<u64>,
    previous_ns: Option<u64>,
    steps: u32,
    wander_ns: u64,
}

impl Window {
    fn health(&self) -> Option<Health> {
        let ended = self.answered + self.lost;
        let least_ns = self.least_ns.filter(|_| ended >= PROBES_MIN)?;
        let jitter_ns = self.wander_ns.checked_div(self.steps.into()).unwrap_or_default();
        Some(Health { loss_permille: self.lost * 1000 / ended, least_ns, jitter_ns })
    }
}

#[derive(Debug, Clone, Copy, Default)]
struct Member {
    window: Window,
    health: Option<Health>,
    bad_windows: u8,
    evictions: u32,
    answered_ns: Option<u64>,
    seated_ns: u64,
    rests_until_ns: u64,
}

/// The members and slots of one WAN.
#[derive(Debug)]
pub(crate) struct Pool {
    members: Vec<Member, MEMBERS_MAX>,
    slots: Vec<usize, MAX_REFLECTORS>,
    /// The latest answer of anybody in a slot, and since when there have been answers.
    answered_ns: Option<u64>,
    line_since_ns: u64,
    window_ns: u64,
    started_ns: u64,
    sent: u32,
    scouted: usize,
}

impl Pool {
    /// Makes a pool whose first `active` members are pinged.
    pub(crate) fn new(members: usize, active: usize, now_ns: u64) -> Self {
        let seated = Member { seated_ns: now_ns, ..Member::default() };
        Self {
            members: std::iter::repeat_n(seated, members.min(MEMBERS_MAX)).collect(),
            slots: (0..active.min(members).min(MAX_REFLECTORS)).collect(),
            answered_ns: None,
            line_since_ns: now_ns,
            window_ns: now_ns,
            started_ns: now_ns,
            sent: 0,
            scouted: 0,
        }
    }

    /// Returns the slot of a member that is pinged.
    pub(crate) fn slot_of(&self, member: usize) -> Option<usize> {
        self.slots.iter().position(|seated| *seated == member)
    }

    /// Returns the member in a slot.
    pub(crate) fn member_in(&self, slot: usize) -> Option<usize> {
        self.slots.get(slot).copied()
    }

    /// Returns what the last window has shown of a member.
    pub(crate) fn health(&self, member: usize) -> Option<Health> {
        self.members.get(member)?.health
    }

    /// Returns whom the next probe of a slot is for.
    pub(crate) fn aim(&mut self, slot: usize, now_ns: u64) -> Option<Aim> {
        let member = self.member_in(slot)?;
        self.sent = self.sent.wrapping_add(1);
        if self.sent.is_multiple_of(SCOUT_EVERY) && self.is_silent(now_ns) {
            let count = self.members.len();
            let next = (1..=count).map(|step| (self.scouted + step) % count);
            if let Some(member) = { next }.find(|member| self.slot_of(*member).is_none()) {
                self.scouted = member;
                return Some(Aim { member, is_scout: true });
            }
        }
        Some(Aim { member, is_scout: false })
    }

    /// Returns whether nobody has answered for a while.
    fn is_silent(&self, now_ns: u64) -> bool {
        let latest_ns = self.answered_ns.unwrap_or(self.started_ns);
        now_ns.saturating_sub(latest_ns) >= SILENT_NS
    }

    /// Takes an answer of a member to one of its own probes.
    pub(crate) fn answered(&mut self, member: usize, rtt_ns: u64, now_ns: u64) {
        if self.slot_of(member).is_none() {
            return;
        }
        let pause_ns = now_ns.saturating_sub(self.answered_ns.unwrap_or_default());
        if pause_ns >= ALIVE_NS {
            self.line_since_ns = now_ns;
        }
        self.answered_ns = Some(now_ns);
        let Some(member) = self.members.get_mut(member) else { return };
        member.answered_ns = Some(now_ns);
        let window = &mut member.window;
        window.answered += 1;
        window.least_ns = Some(window.least_ns.map_or(rtt_ns, |least| least.min(rtt_ns)));
        if let Some(previous) = window.previous_ns.replace(rtt_ns) {
            window.steps += 1;
            window.wander_ns = window.wander_ns.saturating_add(previous.abs_diff(rtt_ns));
        }
    }

    /// Takes note of a probe of a member that was lost.
    pub(crate) fn lost(&mut self, member: usize) {
        if let Some(member) = self.members.get_mut(member) {
            member.window.lost += 1;
        }
    }

    /// A spare has answered although nobody else does: it gets the slot that has been silent longest.
    pub(crate) fn scout_answered(&mut self, member: usize, now_ns: u64) -> Option<Replacement> {
        if self.slot_of(member).is_some() || !self.is_silent(now_ns) {
            return None;
        }
        let last_heard = |slot: &usize| {
            let member = self.slots.get(*slot).and_then(|member| self.members.get(*member));
            member.and_then(|member| member.answered_ns)
        };
        let slot = (0..self.slots.len()).min_by_key(last_heard)?;
        let replacement = self.replace(slot, member, Reason::Silent, now_ns);
        self.answered_ns = Some(now_ns);
        self.line_since_ns = now_ns;
        replacement
    }

    /// Looks whether a slot should go to a spare; to be called about once a second.
    pub(crate) fn review(&mut self, now_ns: u64) -> Option<Replacement> {
        let is_over = now_ns.saturating_sub(self.window_ns) >= WINDOW_NS;
        if is_over {
            self.window_ns = now_ns;
            self.close_windows();
        }
        let is_alive = self.answered_ns.is_some_and(|at| now_ns.saturating_sub(at) < ALIVE_NS);
        if !is_alive {
            return None;
        }
        let (slot, why) = (0..self.slots.len()).find_map(|slot| {
            let member = self.members.get(self.member_in(slot)?)?;
            let since_ns = member.answered_ns.unwrap_or_default().max(member.seated_ns);
            let since_ns = since_ns.max(self.line_since_ns);
            if now_ns.saturating_sub(since_ns) >= SILENT_NS {
                return Some((slot, Reason::Silent));
            }
            let why = self.flaw(slot).filter(|_| member.bad_windows >= BAD_WINDOWS)?;
            Some((slot, why))
        })?;
        let spare = self.spare(now_ns)?;
        self.replace(slot, spare, why, now_ns)
    }

    /// Returns the spare that has lost its slot least often, in the order of the configuration.
    fn spare(&self, now_ns: u64) -> Option<usize> {
        let is_free = |(number, member): &(usize, &Member)| {
            self.slot_of(*number).is_none() && member.rests_until_ns <= now_ns
        };
        let free = self.members.iter().enumerate().filter(is_free);
        free.min_by_key(|(_, member)| member.evictions).map(|(number, _)| number)
    }

    fn replace(
        &mut self,
        slot: usize,
        new: usize,
        why: Reason,
        now_ns: u64,
    ) -> Option<Replacement> {
        let seat = self.slots.get_mut(slot)?;
        let old = std::mem::replace(seat, new);
        if let Some(member) = self.members.get_mut(old) {
            let rest_ns = REST_NS << member.evictions.min(3);
            member.evictions = member.evictions.saturating_add(1);
            member.rests_until_ns = now_ns.saturating_add(rest_ns);
        }
        if let Some(member) = self.members.get_mut(new) {
            let evictions = member.evictions;
            *member = Member { seated_ns: now_ns, evictions, ..Member::default() };
        }
        Some(Replacement { slot, old, new, why })
    }

    fn close_windows(&mut self) {
        for &seated in &self.slots {
            if let Some(member) = self.members.get_mut(seated) {
                member.health = member.window.health();
                member.window = Window::default();
            }
        }
        for slot in 0..self.slots.len() {
            let is_bad = self.flaw(slot).is_some();
            let seated = self.member_in(slot).and_then(|member| self.members.get_mut(member));
            if let Some(member) = seated {
                member.bad_windows = if is_bad { member.bad_windows.saturating_add(1) } else { 0 };
            }
        }
    }

    /// Returns what is wrong with the member in a slot beside its fellows.
    fn flaw(&self, slot: usize) -> Option<Reason> {
        let of = |slot: &usize| self.member_in(*slot).and_then(|member| self.health(member));
        let own = of(&slot)?;
        let fellows =
            || (0..self.slots.len()).filter(|other| *other != slot).filter_map(|n| of(&n));
        let loss = fellows().map(|health| health.loss_permille).min()?;
        let least_ns = fellows().map(|health| health.least_ns).min()?;
        let jitter_ns = fellows().map(|health| health.jitter_ns).min()?;
        let is_slower = own.least_ns > least_ns.saturating_add(SLOWER_NS.max(least_ns / 2));
        let calm_ns = jitter_ns.saturating_add(JITTER_MORE_NS.max(jitter_ns.saturating_mul(2)));
        if own.loss_permille >= loss + LOSS_MORE {
            Some(Reason::Lossy)
        } else if is_slower {
            Some(Reason::Slow)
        } else if own.jitter_ns > calm_ns {
            Some(Reason::Jittery)
        } else {
            None
        }
    }
}

#[cfg(test)]
mod tests;
