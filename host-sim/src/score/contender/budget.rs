//! A write budget for laws that bring none: the newest rate waits until a write is allowed.

use std::collections::VecDeque;

use wanctl_core::tick::Tick;
use wanctl_core::units::{Direction, PerDirection};

use super::{Asks, Contender, Insight, RateAsk};
use crate::score::model::Truth;

/// What a router may be asked to write, both directions together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budget {
    /// Writes in any minute.
    pub per_minute: u32,
    /// Writes in any second.
    pub per_second: u32,
}

impl Budget {
    /// What a RouterOS backend may write by default.
    pub const ROUTEROS: Self = Self { per_minute: 120, per_second: 6 };
}

/// A law behind a budget. Cuts go first; as long as nothing may be written, newer rates replace
/// older ones. Raises leave an eighth of the minute's writes to cuts, as our governor does.
#[derive(Debug)]
pub struct Budgeted<C> {
    law: C,
    budget: Budget,
    written: VecDeque<u64>,
    waiting: PerDirection<Option<RateAsk>>,
    commanded: PerDirection<Option<u64>>,
}

impl<C> Budgeted<C> {
    /// Puts a law behind a budget.
    #[must_use]
    pub fn new(law: C, budget: Budget) -> Self {
        Self {
            law,
            budget,
            written: VecDeque::new(),
            waiting: PerDirection::default(),
            commanded: PerDirection::default(),
        }
    }

    fn may_write(&mut self, now_us: u64, is_cut: bool) -> bool {
        while self.written.front().is_some_and(|&at| at + 60_000_000 <= now_us) {
            self.written.pop_front();
        }
        let in_second = self.written.iter().rev().take_while(|&&at| at + 1_000_000 > now_us);
        let reserve = if is_cut { 0 } else { self.budget.per_minute / 8 };
        let in_minute = self.written.len() as u32;
        in_minute < self.budget.per_minute.saturating_sub(reserve)
            && (in_second.count() as u32) < self.budget.per_second
    }
}

impl<C: Contender> Contender for Budgeted<C> {
    fn step(&mut self, tick: &Tick, truth: &Truth<'_>, asks: &mut Asks) {
        self.law.step(tick, truth, asks);
        for direction in Direction::BOTH {
            if let Some(ask) = asks.rates.get_mut(direction).take() {
                *self.waiting.get_mut(direction) = Some(ask);
            }
        }
        let now_us = tick.now.as_micros();
        for want_cut in [true, false] {
            for direction in Direction::BOTH {
                let Some(ask) = *self.waiting.get(direction) else { continue };
                let commanded = *self.commanded.get(direction);
                let is_cut = commanded.is_none_or(|commanded| ask.rate < commanded);
                if is_cut != want_cut {
                    continue;
                }
                if commanded == Some(ask.rate) {
                    *self.waiting.get_mut(direction) = None;
                } else if self.may_write(now_us, is_cut) {
                    self.written.push_back(now_us);
                    *self.waiting.get_mut(direction) = None;
                    *self.commanded.get_mut(direction) = Some(ask.rate);
                    *asks.rates.get_mut(direction) = Some(ask);
                }
            }
        }
    }

    fn insight(&self) -> Insight {
        self.law.insight()
    }
}
