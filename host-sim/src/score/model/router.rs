//! The router: how long a write takes, which write wins, how fresh its counters are.

use wanctl_core::tick::{CounterReading, Outcome, Reply, Tick};
use wanctl_core::units::{BitsPerSecond, CommandId, Direction, PerDirection, WanId};

use crate::score::rng::Rng;

/// Where the shaper is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Backend {
    /// On the same machine: a write takes effect in the next step, counters are fresh every tick.
    Linux,
    /// Behind RouterOS REST as on an RB5009: one request at a time, 20 ms each in the mean.
    Routeros,
}

/// How long a REST request to an RB5009 takes: share of requests in per mille, and µs.
///
/// Mean about 20 ms, p95 50 ms, at most 147 ms (measured by wanctl's author).
const REST_US: [(u64, u64); 6] =
    [(0, 6_000), (500, 12_000), (900, 32_000), (950, 50_000), (990, 95_000), (1000, 147_000)];

/// A rate on its way to the router.
#[derive(Debug, Clone, Copy)]
pub struct Command {
    /// Names it in its reply.
    pub id: CommandId,
    /// The rate, in bit/s.
    pub rate: u64,
    /// Whether it lowers the rate.
    pub is_cut: bool,
    /// When it was given, in µs.
    pub at_us: u64,
}

#[derive(Debug, Clone, Copy)]
enum Request {
    Write(Direction, Command),
    Read,
}

/// What a router does in one step.
#[derive(Debug, Clone, Copy)]
pub struct Applied {
    /// The direction whose rate has changed.
    pub direction: Direction,
    /// The rate, in bit/s.
    pub rate: u64,
}

/// The router.
#[derive(Debug, Clone)]
pub struct Router {
    backend: Backend,
    counter_interval_us: u64,
    rng: Rng,
    waiting: PerDirection<Option<Command>>,
    active: Option<(Request, u64)>,
    next_read_us: u64,
    replies: Vec<Reply>,
    readings: Vec<(u64, CounterReading)>,
    writes: u64,
}

impl Router {
    /// Makes a router without work.
    #[must_use]
    pub fn new(backend: Backend, counter_interval_us: u64, seed: u64) -> Self {
        Self {
            backend,
            counter_interval_us,
            rng: Rng::new(seed, 0x726f_7574),
            waiting: PerDirection::default(),
            active: None,
            next_read_us: 0,
            replies: Vec::with_capacity(16),
            readings: Vec::with_capacity(16),
            writes: 0,
        }
    }

    /// Takes a command; an older one of the same direction that was not sent yet is superseded.
    pub fn command(&mut self, direction: Direction, command: Command) {
        if let Some(old) = self.waiting.get_mut(direction).replace(command) {
            self.reply(direction, &old, Outcome::Superseded, command.at_us);
        }
    }

    fn reply(&mut self, direction: Direction, command: &Command, outcome: Outcome, now_us: u64) {
        let took_us = u32::try_from(now_us - command.at_us).unwrap_or(u32::MAX);
        let wan = WanId(0);
        self.replies.push(Reply { wan, direction, id: command.id, outcome, took_us });
    }

    /// Runs until `now_us`; returns the rate that takes effect, if any. `counters` gives the
    /// counters of a direction as they are now. Call it until it returns nothing.
    pub fn run(
        &mut self,
        now_us: u64,
        counters: impl Fn(Direction) -> CounterReading,
    ) -> Option<Applied> {
        if let Some((request, until)) = self.active {
            if now_us < until {
                return None;
            }
            self.active = None;
            match request {
                Request::Write(direction, command) => {
                    let rate = command.rate;
                    let outcome = Outcome::Applied(BitsPerSecond::new(rate));
                    self.reply(direction, &command, outcome, now_us);
                    // The reply to a PATCH is the whole record with its counters.
                    self.readings.push((now_us, counters(direction)));
                    return Some(Applied { direction, rate });
                }
                Request::Read => {
                    for direction in Direction::BOTH {
                        self.readings.push((now_us, counters(direction)));
                    }
                }
            }
        }
        if let Some(request) = self.next_request(now_us) {
            self.active = Some((request, now_us + self.latency_us()));
        }
        None
    }

    /// Cuts first, then raises, then counters that are due.
    fn next_request(&mut self, now_us: u64) -> Option<Request> {
        for want_cut in [true, false] {
            for direction in Direction::BOTH {
                let waiting = self.waiting.get_mut(direction);
                if let Some(command) = waiting.take_if(|command| command.is_cut == want_cut) {
                    self.writes += 1;
                    return Some(Request::Write(direction, command));
                }
            }
        }
        if self.backend == Backend::Routeros && now_us >= self.next_read_us {
            self.next_read_us = now_us + self.counter_interval_us;
            return Some(Request::Read);
        }
        None
    }

    fn latency_us(&mut self) -> u64 {
        match self.backend {
            Backend::Linux => 0,
            Backend::Routeros => rest_latency_us(self.rng.below(1000)),
        }
    }

    /// Tells a tick which commands have ended and which counters were read.
    pub fn report(
        &mut self,
        now_us: u64,
        tick: &mut Tick,
        counters: impl Fn(Direction) -> CounterReading,
    ) {
        for reply in self.replies.drain(..) {
            tick.push_reply(reply);
        }
        if self.backend == Backend::Linux {
            self.readings.clear();
            for direction in Direction::BOTH {
                tick.push_counters(counters(direction));
            }
        }
        for (at, reading) in self.readings.drain(..) {
            let age_us = u32::try_from(now_us - at).unwrap_or(u32::MAX);
            // RouterOS shows no drops of CAKE.
            tick.push_counters(CounterReading { age_us, dropped_packets: 0, ..reading });
        }
    }

    /// Returns whether the next call of [`Router::run`] does something.
    #[must_use]
    pub fn is_due(&self, now_us: u64) -> bool {
        match self.active {
            Some((_, until)) => now_us >= until,
            None => {
                self.waiting.download.is_some()
                    || self.waiting.upload.is_some()
                    || (self.backend == Backend::Routeros && now_us >= self.next_read_us)
            }
        }
    }

    /// Returns the writes sent so far.
    #[must_use]
    pub const fn writes(&self) -> u64 {
        self.writes
    }
}

fn rest_latency_us(permille: u64) -> u64 {
    let next = REST_US.partition_point(|&(share, _)| share <= permille).min(REST_US.len() - 1);
    let ((from, low), (to, high)) = (REST_US[next - 1], REST_US[next]);
    low + (high - low) * (permille - from) / (to - from)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn none(direction: Direction) -> CounterReading {
        CounterReading {
            wan: WanId(0),
            direction,
            delivered_bytes: 0,
            dropped_packets: 0,
            backlog_bytes: 0,
            backlog_packets: 0,
            age_us: 0,
            queue_delay_us: None,
        }
    }

    #[test]
    fn rest_latency_is_that_of_an_rb5009() {
        let all: Vec<u64> = (0..1000).map(rest_latency_us).collect();
        let mean = all.iter().sum::<u64>() / 1000;
        assert!((19_000..21_500).contains(&mean), "{mean}");
        assert_eq!(all[950], 50_000);
        assert!(*all.last().unwrap() <= 147_000);
    }

    #[test]
    fn the_latest_of_waiting_writes_wins_and_cuts_overtake_raises() {
        let mut router = Router::new(Backend::Routeros, 1_000_000_000, 1);
        let command = |id, rate, is_cut| Command { id: CommandId(id), rate, is_cut, at_us: 0 };
        let mut applied = Vec::new();
        assert!(router.run(0, none).is_none()); // reads counters first
        router.command(Direction::Download, command(1, 10, false));
        router.command(Direction::Download, command(2, 20, false));
        router.command(Direction::Upload, command(3, 5, true));
        for step in 1..400 {
            while let Some(a) = router.run(step * 2_000, none) {
                applied.push((a.direction, a.rate));
            }
        }
        assert_eq!(applied, [(Direction::Upload, 5), (Direction::Download, 20)]);
        assert_eq!(router.writes(), 2);
    }
}
