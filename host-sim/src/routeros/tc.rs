//! quick: CAKE through the tc program.
use super::plane::{Shaper, ShaperReading};
use anyhow::Context as _;
use std::process::Command;

#[derive(Debug)]
pub(crate) struct Tc(pub(crate) String);

impl Shaper for Tc {
    fn set_rate(&mut self, rate_bps: u64) -> anyhow::Result<()> {
        let rate = format!("{rate_bps}bit");
        let s = Command::new("tc")
            .args(["qdisc", "change", "dev", &self.0, "root", "cake", "bandwidth", &rate])
            .status()?;
        anyhow::ensure!(s.success(), "tc fails");
        Ok(())
    }

    fn read(&mut self) -> anyhow::Result<ShaperReading> {
        let out = Command::new("tc").args(["-s", "-j", "qdisc", "show", "dev", &self.0]).output()?;
        let v: serde_json::Value = serde_json::from_slice(&out.stdout)?;
        let q = v
            .as_array()
            .and_then(|a| a.iter().find(|q| q["kind"] == "cake"))
            .context("no cake qdisc")?;
        let n = |k: &str| q[k].as_u64().unwrap_or(0);
        Ok(ShaperReading {
            rate_bps: q["options"]["bandwidth"].as_u64().unwrap_or(0) * 8,
            bytes: n("bytes"),
            packets: n("packets"),
            dropped: n("drops"),
            queued_bytes: n("backlog"),
            queued_packets: n("qlen"),
        })
    }
}
