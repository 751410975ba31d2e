//! One controller that follows a recording.

use std::fmt::Debug;
use std::io::Write;

use anyhow::{Result, ensure};
use embassy_time::Instant;
use wanctl_core::config::Config;
use wanctl_core::controller::Controller;
use wanctl_core::outputs::Outputs;
use wanctl_core::tick::Tick;
use wanctl_core::trace::{self, Header, STATE_FORMAT};

/// Notes that are kept; the rest is counted.
const NOTES_MAX: usize = 20;

/// The first place where the core did something else than recorded.
#[derive(Debug)]
pub struct Difference {
    /// The number of the step.
    pub seq: u64,
    /// Time of the tick, in µs; nothing when the state in front of the step differs.
    pub time_us: Option<u64>,
    /// What was recorded.
    pub expected: String,
    /// What the core did.
    pub got: String,
}

impl Difference {
    fn of_outputs(seq: u64, tick: &Tick, expected: &Outputs, got: &Outputs) -> Self {
        let (expected, got) = first_difference("action", &expected.actions, &got.actions)
            .or_else(|| first_difference("event", &expected.events, &got.events))
            .unwrap_or_else(|| {
                let dropped = |outputs: &Outputs| format!("{} dropped", outputs.outputs_dropped);
                (dropped(expected), dropped(got))
            });
        Self { seq, time_us: Some(tick.now.as_micros()), expected, got }
    }

    pub(super) fn print(&self, out: &mut impl Write) -> Result<()> {
        let time = self.time_us.map_or(String::new(), |us| {
            format!(", time {}.{:06} s", us / 1_000_000, us % 1_000_000)
        });
        writeln!(out, "first difference: tick {}{time}", self.seq)?;
        writeln!(out, "  recorded: {}", self.expected)?;
        writeln!(out, "  replayed: {}", self.got)?;
        Ok(())
    }
}

fn first_difference<T: PartialEq + Debug>(
    what: &str,
    expected: &[T],
    got: &[T],
) -> Option<(String, String)> {
    let longest = expected.len().max(got.len());
    let index = (0..longest).find(|&index| expected.get(index) != got.get(index))?;
    let show = |list: &[T]| match list.get(index) {
        Some(item) => format!("{what} {index}: {item:?}"),
        None => format!("no {what} {index}"),
    };
    Some((show(expected), show(got)))
}

/// How far a replay has come.
#[derive(Debug, Default)]
pub struct Progress {
    /// Steps that were identical.
    pub steps: u64,
    /// Recorded states that were loaded, or reached bit for bit.
    pub states: u64,
    /// Starts from the beginning, with nothing learned yet.
    pub fresh: u64,
    /// Starts from a state with a past: in the middle of a session, or after a restart.
    pub resumed: u64,
    /// The most WANs of a session.
    pub wans: usize,
    /// Steps without a state to start from.
    pub skipped: u64,
    /// What a reader should know: gaps, restarts.
    pub notes: Vec<String>,
    /// Notes beyond the first few.
    pub notes_left_out: u64,
}

impl Progress {
    fn note(&mut self, note: String) {
        if self.notes.len() < NOTES_MAX {
            self.notes.push(note);
        } else {
            self.notes_left_out += 1;
        }
    }
}

/// What the last header said.
struct Head {
    config: Config,
    has_our_states: bool,
}

/// The controller, as long as it is in step with the recording.
pub(super) struct Session {
    head: Option<Head>,
    controller: Option<Box<Controller>>,
    tick: Tick,
    outputs: Outputs,
    buffer: Vec<u8>,
    progress: Progress,
    difference: Option<Difference>,
    /// Where the outputs go as well.
    copy: Option<Box<dyn Write + Send>>,
}

impl Session {
    pub(super) fn new(copy: Option<Box<dyn Write + Send>>) -> Self {
        Self {
            head: None,
            controller: None,
            tick: Tick::new(Instant::MIN),
            outputs: Outputs::new(),
            buffer: vec![0; trace::MAX_STATE_BYTES],
            progress: Progress::default(),
            difference: None,
            copy,
        }
    }

    pub(super) fn finish(mut self) -> Result<(Progress, Option<Difference>)> {
        self.copy.as_mut().map(Write::flush).transpose()?;
        Ok((self.progress, self.difference))
    }

    pub(super) const fn has_differed(&self) -> bool {
        self.difference.is_some()
    }

    pub(super) fn config(&self) -> Option<&Config> {
        self.head.as_ref().map(|head| &head.config)
    }

    pub(super) fn controller(&self) -> Option<&Controller> {
        self.controller.as_deref()
    }

    pub(super) const fn tick(&self) -> &Tick {
        &self.tick
    }

    pub(super) const fn outputs(&self) -> &Outputs {
        &self.outputs
    }

    pub(super) fn header(&mut self, header: &Header<'_>) -> Result<()> {
        let config = trace::decode_config(header.config)?;
        if self.config() == Some(&config) {
            return Ok(());
        }
        config.check()?;
        if self.head.is_some() {
            self.progress.note("from here on the configuration is another one".to_owned());
        }
        self.controller = None;
        let has_our_states = header.state_format == STATE_FORMAT;
        let ours = env!("CARGO_PKG_VERSION");
        if header.core_version != ours {
            let theirs = header.core_version;
            self.progress.note(format!("recorded by core {theirs}, replayed by core {ours}"));
        }
        if !has_our_states {
            let format = header.state_format;
            self.progress.note(format!(
                "its states are of format {format}, not {STATE_FORMAT}: only the beginning of a \
                 session can be a start, and states are not compared"
            ));
        }
        self.head = Some(Head { config, has_our_states });
        Ok(())
    }

    /// Compares the state that was reached with the recorded one, or starts from it.
    pub(super) fn state(&mut self, seq: u64, body: &[u8]) -> Result<()> {
        let has_our_states = self.head.as_ref().is_none_or(|head| head.has_our_states);
        if let Some(controller) = &self.controller
            && controller.ticks() == seq
        {
            if has_our_states {
                self.compare_state(seq, body)?;
            }
            return Ok(());
        }
        let started = if has_our_states {
            Some(trace::decode_state(body)?)
        } else if let Some(head) = self.head.as_ref().filter(|_| seq == 0) {
            Some(Controller::new(&head.config)?)
        } else {
            None
        };
        let Some(controller) = started else { return Ok(()) };
        ensure!(controller.ticks() == seq, "the state in front of step {seq} is of another step");
        let fits = self.config().is_none_or(|config| controller.fits(config));
        ensure!(fits, "the state in front of step {seq} belongs to another configuration");
        if self.progress.states > 0 || seq > 0 {
            self.progress.note(format!("starting again from the state in front of step {seq}"));
        }
        self.progress.states += 1;
        self.count_start(&controller)?;
        self.controller = Some(Box::new(controller));
        Ok(())
    }

    fn count_start(&mut self, controller: &Controller) -> Result<()> {
        let Some(head) = &self.head else { return Ok(()) };
        self.progress.wans = self.progress.wans.max(head.config.wans.len());
        let new: Box<Controller> = Box::new(Controller::new(&head.config)?);
        let mut other = vec![0; self.buffer.len()];
        let is_fresh = trace::state_bytes(&new, &mut self.buffer)?
            == trace::state_bytes(controller, &mut other)?;
        *(if is_fresh { &mut self.progress.fresh } else { &mut self.progress.resumed }) += 1;
        Ok(())
    }

    fn compare_state(&mut self, seq: u64, body: &[u8]) -> Result<()> {
        let Some(controller) = &self.controller else { return Ok(()) };
        if trace::state_bytes(controller, &mut self.buffer)? == body {
            self.progress.states += 1;
            return Ok(());
        }
        let recorded: Controller = trace::decode_state(body)?;
        self.difference = Some(Difference {
            seq,
            time_us: None,
            expected: format!("the state {:?}", recorded.snapshot()),
            got: format!("the state {:?}", controller.snapshot()),
        });
        Ok(())
    }

    /// Replays a step and compares; returns whether it was replayed.
    pub(super) fn step(&mut self, seq: u64, body: &[u8]) -> Result<bool> {
        let expected = self.controller.as_ref().map(|controller| controller.ticks());
        let Some(controller) = self.controller.as_mut().filter(|_| expected == Some(seq)) else {
            self.lose_track(seq, expected);
            return Ok(false);
        };
        let recorded;
        (self.tick, recorded) = trace::decode_tick(body)?;
        controller.step(&self.tick, &mut self.outputs);
        let outputs = trace::outputs_bytes(&self.outputs, &mut self.buffer)?;
        if let Some(copy) = &mut self.copy {
            copy.write_all(&seq.to_le_bytes())?;
            copy.write_all(&u16::try_from(outputs.len())?.to_le_bytes())?;
            copy.write_all(outputs)?;
        }
        if outputs == recorded {
            self.progress.steps += 1;
        } else {
            let recorded = trace::decode_outputs(recorded)?;
            let difference = Difference::of_outputs(seq, &self.tick, &recorded, &self.outputs);
            self.difference = Some(difference);
        }
        Ok(true)
    }

    fn lose_track(&mut self, seq: u64, expected: Option<u64>) {
        if let Some(expected) = expected {
            let missing = seq.saturating_sub(expected);
            self.progress.note(match missing {
                0 => format!("step {seq} comes where step {expected} belongs"),
                1 => format!("step {expected} is missing"),
                _ => format!("steps {expected} to {} are missing", seq - 1),
            });
        }
        self.controller = None;
        self.progress.skipped += 1;
    }
}
