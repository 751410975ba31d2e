//! `wanctl-sim demo`: the main job, start to end, on one screen.

mod accounting;
mod daemon_log;
mod episode;
mod files;
mod in_process;
mod line;
mod recording;
mod root_net;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

pub use self::daemon_log::DaemonLog;
pub use self::episode::{Episode, LineProfile, Phase};
pub use self::files::{DaemonFiles, PASSWORD, QUEUES, USER, config_text};
pub use self::recording::{Figures, LineSample, Row};
pub use self::root_net::NetRecording;

/// Options of `wanctl-sim demo`.
#[derive(Debug, clap::Args)]
pub struct DemoArgs {
    /// How long the episode takes
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u64).range(10..=3600))]
    seconds: u64,
    /// Use network namespaces with real ICMP and TCP instead of a line inside the process (root)
    #[arg(long)]
    root_net: bool,
    /// The wanctl binary for --root-net; by default the one next to this program
    #[arg(long, value_name = "FILE", requires = "root_net")]
    wanctl: Option<PathBuf>,
    /// Record every tick of the daemon to this file, for `wanctl-sim replay`
    #[arg(long, value_name = "FILE", conflicts_with = "root_net")]
    record: Option<PathBuf>,
}

/// Plays the episode.
///
/// # Errors
///
/// When a part cannot be started, or the daemon ends early.
pub fn run(args: &DemoArgs, out: &mut impl Write) -> Result<()> {
    let length = Duration::from_secs(args.seconds);
    writeln!(out, "wanctl demo: a busy line loses most of its capacity and gets it back")?;
    if !args.root_net {
        let episode = Episode::new(length, LineProfile::CABLE);
        return play_in_process(episode, args.record.as_deref(), out);
    }
    if let Err(why) = crate::netns::available() {
        bail!("--root-net is not possible here: {why}");
    }
    let wanctl = match &args.wanctl {
        Some(path) => path.clone(),
        None => std::env::current_exe()?.with_file_name("wanctl"),
    };
    let wanctl = wanctl.canonicalize().with_context(|| format!("{}", wanctl.display()))?;
    play_root_net(Episode::new(length, LineProfile::SLOW), &wanctl, out)?;
    Ok(())
}

/// Plays an episode inside this process and, on request, records the daemon's ticks.
///
/// # Errors
///
/// As [`run`].
pub fn play_in_process(
    episode: Episode,
    record: Option<&Path>,
    out: &mut impl Write,
) -> Result<()> {
    in_process::run(episode, record, out)
}

/// Plays an episode in network namespaces with the given `wanctl` binary.
///
/// # Errors
///
/// As [`run`].
pub fn play_root_net(
    episode: Episode,
    wanctl: &Path,
    out: &mut impl Write,
) -> Result<NetRecording> {
    root_net::run(episode, wanctl, out)
}
