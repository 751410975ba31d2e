//! One run as a table: time, capacity, rate, delay and what the law thinks, tick by tick.

use std::io::Write;

use anyhow::Result;
use wanctl_core::tick::Tick;
use wanctl_core::units::{Direction, PerDirection};

use super::contender::Contender;
use super::model::World;
use super::model::world::TICK_US;
use super::run::Watch;

/// One CSV line per tick, for tuning.
pub struct Dump<'w> {
    out: &'w mut dyn Write,
    delivered: PerDirection<u64>,
}

impl<'w> Dump<'w> {
    /// Writes the head of the table.
    ///
    /// # Errors
    ///
    /// When `out` cannot be written.
    pub fn new(out: &'w mut dyn Write) -> Result<Self> {
        writeln!(
            out,
            "t_s,capacity_down_mbps,rate_down_mbps,wanted_down_mbps,delivered_down_mbps,\
             queue_down_ms,capacity_up_mbps,rate_up_mbps,wanted_up_mbps,delivered_up_mbps,\
             queue_up_ms,rtt_min_ms,rtt_max_ms,losses,estimated_delay_ms,estimated_baseline_ms"
        )?;
        Ok(Self { out, delivered: PerDirection::default() })
    }
}

impl std::fmt::Debug for Dump<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Dump").finish_non_exhaustive()
    }
}

impl Watch for Dump<'_> {
    fn look(&mut self, world: &World<'_>, tick: &Tick, contender: &dyn Contender) -> Result<()> {
        let mbps = |bps: u64| bps as f64 / 1e6;
        let millis =
            |us: Option<u64>| us.map_or(String::new(), |us| format!("{:.2}", us as f64 / 1e3));
        let insight = contender.insight();
        write!(self.out, "{:.2}", world.now_us() as f64 / 1e6)?;
        for direction in Direction::BOTH {
            let line = world.line(direction);
            let delivered = line.cake.delivered();
            let before = std::mem::replace(self.delivered.get_mut(direction), delivered);
            let wanted = insight.wanted.get(direction);
            write!(
                self.out,
                ",{:.3},{:.3},{},{:.3},{:.2}",
                mbps(*world.truth().capacity.get(direction)),
                mbps(*world.rates().get(direction)),
                wanted.map_or(String::new(), |wanted| format!("{:.3}", mbps(wanted))),
                mbps((delivered - before) * 1_000_000 / TICK_US),
                line.queue_us() as f64 / 1e3
            )?;
        }
        let rtts = tick.samples.iter().map(|sample| sample.rtt.get() / 1000);
        writeln!(
            self.out,
            ",{},{},{},{},{}",
            millis(rtts.clone().min()),
            millis(rtts.max()),
            tick.losses.len(),
            millis(insight.delay_us),
            millis(insight.baseline_us)
        )?;
        Ok(())
    }
}
