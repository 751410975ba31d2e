//! Traffic counters of one row, with the widths the router gives them.

use std::time::Duration;

/// Length of one slot of the rate average.
const SLOT: Duration = Duration::from_millis(100);
/// Whole slots averaged: 10 slots of 100 ms make the 1 s average of `rate`.
const AVERAGED_SLOTS: u64 = 10;
/// The averaged slots plus the one being filled.
const SLOTS: usize = 11;

/// Traffic that passed a queue, rule or interface since the last call.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct QueueTraffic {
    /// Bytes delivered, added to the counter.
    pub bytes: u64,
    /// Packets delivered, added to the counter.
    pub packets: u64,
    /// Packets dropped, added to the counter.
    pub dropped: u64,
    /// Bytes waiting now; replaces the previous value.
    pub queued_bytes: u64,
    /// Packets waiting now; replaces the previous value.
    pub queued_packets: u64,
}

/// Counts one direction of one row.
#[derive(Debug, Clone, Default)]
pub(crate) struct Lane {
    /// Bytes delivered; wraps at 64 bit.
    pub(crate) bytes: u64,
    /// Packets delivered. Queue rows show the low 32 bit.
    pub(crate) packets: u64,
    /// Packets dropped. Queue rows show the low 32 bit.
    pub(crate) dropped: u64,
    /// Bytes waiting; shown limited to 32 bit.
    pub(crate) queued_bytes: u64,
    /// Packets waiting; shown limited to 32 bit.
    pub(crate) queued_packets: u64,
    slots: [Slot; SLOTS],
    refreshed: Refreshed,
}

/// What a queue row shows of a lane.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Totals {
    pub(crate) bytes: u64,
    pub(crate) packets: u64,
    pub(crate) dropped: u64,
    pub(crate) queued_bytes: u64,
    pub(crate) queued_packets: u64,
}

/// The totals at the beginning of a refresh period, counted from 0.
#[derive(Debug, Clone, Copy, Default)]
struct Refreshed {
    period: u128,
    totals: Totals,
}

#[derive(Debug, Clone, Copy, Default)]
struct Slot {
    index: u64,
    bytes: u64,
    packets: u64,
}

impl Lane {
    /// Adds `traffic` seen at `now` (time since start, never decreasing). The totals are shown as of
    /// the last multiple of `refresh`; zero shows them as they are.
    pub(crate) fn add(&mut self, now: Duration, refresh: Duration, traffic: QueueTraffic) {
        self.refreshed =
            Refreshed { period: period(now, refresh), totals: self.totals(now, refresh) };
        self.bytes = self.bytes.wrapping_add(traffic.bytes);
        self.packets = self.packets.wrapping_add(traffic.packets);
        self.dropped = self.dropped.wrapping_add(traffic.dropped);
        self.queued_bytes = traffic.queued_bytes;
        self.queued_packets = traffic.queued_packets;
        let index = slot_index(now);
        let slot = &mut self.slots[slot_position(index)];
        if slot.index != index {
            *slot = Slot { index, ..Slot::default() };
        }
        slot.bytes = slot.bytes.saturating_add(traffic.bytes);
        slot.packets = slot.packets.saturating_add(traffic.packets);
    }

    /// Returns the totals that are shown at `now`.
    pub(crate) fn totals(&self, now: Duration, refresh: Duration) -> Totals {
        if !refresh.is_zero() && self.refreshed.period == period(now, refresh) {
            return self.refreshed.totals;
        }
        let Self { bytes, packets, dropped, queued_bytes, queued_packets, .. } = *self;
        Totals { bytes, packets, dropped, queued_bytes, queued_packets }
    }

    /// Zeroes the totals; the backlog and the average are not counters and stay.
    pub(crate) fn reset(&mut self) {
        self.bytes = 0;
        self.packets = 0;
        self.dropped = 0;
        let shown = &mut self.refreshed.totals;
        *shown = Totals { bytes: 0, packets: 0, dropped: 0, ..*shown };
    }

    /// Returns the average of the last whole second in bits per second, limited to 32 bit.
    pub(crate) fn rate_bps(&self, now: Duration) -> u32 {
        let bytes = self.averaged(now, |slot| slot.bytes);
        limit_u32(bytes.saturating_mul(8))
    }

    /// Returns the average of the last whole second in packets per second.
    pub(crate) fn packet_rate(&self, now: Duration) -> u32 {
        limit_u32(self.averaged(now, |slot| slot.packets))
    }

    fn averaged(&self, now: Duration, amount: impl Fn(&Slot) -> u64) -> u64 {
        let current = slot_index(now);
        let oldest = current.saturating_sub(AVERAGED_SLOTS);
        let in_window = |slot: &&Slot| (oldest..current).contains(&slot.index);
        self.slots.iter().filter(in_window).map(amount).fold(0, u64::saturating_add)
    }
}

/// Limits a value to what a 32-bit property can show.
pub(crate) fn limit_u32(value: u64) -> u32 {
    u32::try_from(value).unwrap_or(u32::MAX)
}

/// Wraps a count to what a 32-bit property can show.
pub(crate) fn wrap_u32(value: u64) -> u64 {
    value & u64::from(u32::MAX)
}

/// Returns which refresh period a time belongs to.
fn period(now: Duration, refresh: Duration) -> u128 {
    now.as_nanos().checked_div(refresh.as_nanos()).unwrap_or_default()
}

fn slot_index(now: Duration) -> u64 {
    u64::try_from(now.as_nanos() / SLOT.as_nanos()).unwrap_or(u64::MAX)
}

fn slot_position(index: u64) -> usize {
    usize::try_from(index % SLOTS as u64).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(bytes: u64) -> QueueTraffic {
        QueueTraffic { bytes, packets: 1, ..QueueTraffic::default() }
    }

    #[test]
    fn rate_is_the_average_of_the_last_whole_second() {
        let mut lane = Lane::default();
        // 1250 bytes every 10 ms are 1 Mbit/s.
        for step in 0..200_u64 {
            lane.add(Duration::from_millis(step * 10), Duration::ZERO, bytes(1250));
        }
        assert_eq!(lane.rate_bps(Duration::from_millis(2000)), 1_000_000);
        assert_eq!(lane.packet_rate(Duration::from_millis(2000)), 100);
        assert_eq!(lane.rate_bps(Duration::from_millis(2500)), 500_000);
        assert_eq!(lane.rate_bps(Duration::from_millis(3100)), 0);
    }

    #[test]
    fn widths_wrap_or_limit() {
        let mut lane = Lane { bytes: u64::MAX, ..Lane::default() };
        lane.add(Duration::ZERO, Duration::ZERO, bytes(6_000_000_000));
        assert_eq!(lane.bytes, 5_999_999_999);
        assert_eq!(lane.rate_bps(Duration::from_millis(500)), u32::MAX);
        assert_eq!(wrap_u32(u64::from(u32::MAX) + 3), 2);
        assert_eq!(limit_u32(u64::from(u32::MAX) + 3), u32::MAX);
    }

    #[test]
    fn totals_can_be_those_of_the_last_whole_second() {
        let mut lane = Lane::default();
        let second = Duration::from_secs(1);
        let shown = |lane: &Lane, ms| lane.totals(Duration::from_millis(ms), second).bytes;
        lane.add(Duration::from_millis(300), second, bytes(1));
        lane.add(Duration::from_millis(900), second, bytes(10));
        assert_eq!((shown(&lane, 999), shown(&lane, 1000)), (0, 11));
        lane.add(Duration::from_millis(1_500), second, bytes(100));
        assert_eq!((shown(&lane, 1_999), shown(&lane, 2_000)), (11, 111));
        lane.reset();
        assert_eq!((shown(&lane, 1_999), shown(&lane, 2_000)), (0, 0));
    }

    #[test]
    fn reset_keeps_the_backlog() {
        let mut lane = Lane::default();
        let traffic = QueueTraffic { bytes: 1, packets: 2, dropped: 3, ..QueueTraffic::default() };
        let traffic = QueueTraffic { queued_bytes: 4, queued_packets: 5, ..traffic };
        lane.add(Duration::ZERO, Duration::ZERO, traffic);
        lane.reset();
        assert_eq!((lane.bytes, lane.packets, lane.dropped), (0, 0, 0));
        assert_eq!((lane.queued_bytes, lane.queued_packets), (4, 5));
    }
}
