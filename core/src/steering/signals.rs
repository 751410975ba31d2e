//! What steering is told about each WAN, once per tick.

use embassy_time::{Duration, Instant};
use serde::{Deserialize, Serialize};

use crate::fixed::MicrosQ32;
use crate::places::Empty;
use crate::steering::assess::QUEUE_AGE_MAX;
use crate::tick::{CounterReading, Tick};
use crate::units::{Direction, Packets, WanId};

/// What one tick says about one WAN.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct WanSignals {
    /// The unfiltered delay above the baseline; `None` when this tick brought no measurement.
    pub delay: Option<MicrosQ32>,
    /// The download shaper's queue.
    pub queue: QueueSignal,
    /// Whether the WAN carries nothing at all. An outage is not a bad zone, and shares no counter
    /// with one.
    pub outage: bool,
}

/// What one tick says about a shaper's queue.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum QueueSignal {
    /// It was not read in this tick; the last reading stays valid for a while.
    #[default]
    NotRead,
    /// It could not be read.
    Failed,
    /// It was read.
    Read {
        /// Packets dropped since the counter began.
        dropped: Packets,
        /// Packets waiting now.
        backlog: Packets,
    },
}

/// How long a WAN whose link has no configured life must be silent to count as out.
const OUTAGE_AFTER: Duration = Duration::from_secs(3);

/// What a WAN's own tick leaves for steering.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Sight {
    #[serde(with = "crate::micros")]
    outage_after: Duration,
    /// When anything last said that the line works; at first the first tick.
    #[serde(with = "crate::micros")]
    heard_at: Option<Instant>,
    delay: Option<MicrosQ32>,
    outage: bool,
}

impl Empty for Sight {
    const EMPTY: Self =
        Self { outage_after: Duration::MIN, heard_at: None, delay: None, outage: false };
}

impl Sight {
    pub(crate) fn new(outage_after: Option<Duration>) -> Self {
        let outage_after = outage_after.unwrap_or(OUTAGE_AFTER);
        Self { outage_after, heard_at: None, delay: None, outage: false }
    }

    /// Goes on where another configuration was.
    pub(crate) const fn take_over(&mut self, before: &Self) {
        self.heard_at = before.heard_at;
        self.outage = before.outage;
    }

    /// Begins a tick. `works` tells that a probe was answered or another check succeeded, `is_down`
    /// that the interface cannot carry traffic.
    ///
    /// A line that was never heard is out too; one with a new address is not, until it is silent.
    pub(crate) fn look(&mut self, now: Instant, works: bool, is_down: bool) {
        let heard_at = *self.heard_at.get_or_insert(now);
        if works {
            self.heard_at = Some(now);
        }
        let silence = now.checked_duration_since(heard_at).unwrap_or(Duration::MIN);
        self.outage = is_down || (!works && silence >= self.outage_after);
        self.delay = None;
    }

    /// Notes this tick's unfiltered delay above the baseline.
    pub(crate) const fn measure(&mut self, delay: MicrosQ32) {
        self.delay = Some(delay);
    }

    /// Returns this tick's signals of the WAN.
    pub(crate) fn signals(&self, id: WanId, tick: &Tick) -> WanSignals {
        let is_fresh =
            |reading: &&CounterReading| u64::from(reading.age_us) <= QUEUE_AGE_MAX.as_micros();
        let is_queue = |reading: &&CounterReading| {
            reading.wan == id && reading.direction == Direction::Download
        };
        let reading = tick.counters.iter().filter(is_queue).rfind(is_fresh);
        let queue = reading.map_or(QueueSignal::NotRead, |reading| QueueSignal::Read {
            dropped: Packets(reading.dropped_packets.into()),
            backlog: Packets(reading.backlog_packets.into()),
        });
        WanSignals { delay: self.delay, queue, outage: self.outage }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_that_was_never_heard_is_out_and_the_first_answer_ends_that() {
        let mut sight = Sight::new(None);
        let tick = Tick::new(Instant::MIN);
        let mut outage = |millis, works, is_down| {
            sight.look(Instant::from_millis(millis), works, is_down);
            sight.signals(WanId(0), &tick).outage
        };
        assert!(!outage(1000, false, false));
        assert!(!outage(3999, false, false));
        assert!(outage(4000, false, false));
        assert!(!outage(4050, true, false));
        assert!(!outage(7000, false, false));
        assert!(outage(7050, false, false));
        assert!(outage(7100, true, true), "the interface is down");
    }

    #[test]
    fn the_latest_fresh_reading_of_the_download_counts() {
        let sight = Sight::new(None);
        let mut tick = Tick::new(Instant::MIN);
        let mut push = |wan, direction, dropped_packets, age_us| {
            tick.push_counters(CounterReading {
                wan: WanId(wan),
                direction,
                delivered_bytes: 0,
                dropped_packets,
                backlog_bytes: 0,
                backlog_packets: 7,
                age_us,
                queue_delay_us: None,
            });
        };
        push(1, Direction::Download, 1, 0);
        push(1, Direction::Download, 2, 0);
        push(1, Direction::Download, 3, 5_000_001);
        push(1, Direction::Upload, 4, 0);
        push(0, Direction::Upload, 5, 0);
        let (dropped, backlog) = (Packets(2), Packets(7));
        let queue = |id| sight.signals(WanId(id), &tick).queue;
        assert_eq!(queue(1), QueueSignal::Read { dropped, backlog });
        assert_eq!(queue(0), QueueSignal::NotRead);
    }
}
