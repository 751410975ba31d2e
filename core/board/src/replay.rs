//! Feeding a recording to the core: what `wanctl-sim replay` does, in the memory of a board.

use core::ffi::CStr;

use cortex_m::peripheral::SCB;
use embassy_time::Duration;
use heapless::Vec;
use wanctl_core::config::Config;
use wanctl_core::controller::Controller;
use wanctl_core::trace::{self, Header, Record, STATE_FORMAT};

use crate::desk::Desk;
use crate::frames::Frames;
use crate::host::{Failure, Writer};
use crate::{INBOX, OUTBOX, SNAPSHOT, STEERINGS, WANS, stack};

/// The longest frame that is looked at. Without `resume` no state record is needed, and a step with
/// full lists has less than 5 KiB (`core/tests/trace.rs`).
pub(crate) const FRAME_BYTES: usize =
    if cfg!(feature = "resume") { trace::MAX_STATE_BYTES } else { 5 * 1024 };

/// Files in the folder that the emulator was started in.
const RECORDING: &CStr = c"recording";
const OUTPUTS: &CStr = c"outputs";
const COSTS: &CStr = c"costs";

/// The longest configuration, encoded.
const CONFIG_BYTES: usize = 512 * if WANS > 2 { WANS } else { 2 };

/// Replays the whole recording.
pub(crate) fn run(
    replay: &'static mut Replay,
    desk: &'static mut Desk,
    buffer: &'static mut [u8],
) -> Result<(), Failure> {
    #[cfg(feature = "log")]
    crate::log::start()?;
    replay.desk = Some(desk);
    replay.frames.open(RECORDING)?;
    replay.outputs.create(OUTPUTS)?;
    replay.costs.create(COSTS)?;
    while let Some(frame) = replay.frames.read(buffer)? {
        // As on the host, a damaged frame costs one record.
        if let Ok(length) = trace::open(frame).map(<[u8]>::len) {
            replay.take(buffer, length)?;
        }
    }
    replay.finish()
}

/// What the replay remembers. Its parts are functions that are not inlined, so that they use the
/// same stack one after the other.
pub(crate) struct Replay {
    /// What the last header said, as bytes: that is a quarter of the configuration's size.
    config: Vec<u8, CONFIG_BYTES>,
    /// Its states are of this version.
    has_our_states: bool,
    /// `None` only while the tick has it.
    desk: Option<&'static mut Desk>,
    frames: Frames,
    outputs: Writer,
    costs: Writer,
}

impl Replay {
    pub(crate) const fn new() -> Self {
        Self {
            config: Vec::new(),
            has_our_states: false,
            desk: None,
            frames: Frames::new(),
            outputs: Writer::new(),
            costs: Writer::new(),
        }
    }

    fn take(&mut self, buffer: &mut [u8], length: usize) -> Result<(), Failure> {
        let payload = buffer.get(..length).unwrap_or_default();
        match trace::parse(payload).map_err(|_| "an intact frame cannot be read")? {
            Record::OtherFormat(_) => Err("the recording is of another format"),
            Record::Header(header) => self.header(&header),
            Record::State { seq, body } => self.state(seq, body),
            Record::Step { seq, body } => {
                if self.step(seq, body)? {
                    self.answer(seq, buffer)?;
                }
                Ok(())
            }
        }
    }

    #[inline(never)]
    fn header(&mut self, header: &Header<'_>) -> Result<(), Failure> {
        if self.config != header.config {
            self.config.clear();
            let copied = self.config.extend_from_slice(header.config);
            copied.map_err(|_| "the configuration is too long")?;
            self.desk()?.is_ready = false;
        }
        self.has_our_states = header.state_format == STATE_FORMAT;
        Ok(())
    }

    fn desk(&mut self) -> Result<&mut Desk, Failure> {
        self.desk.as_deref_mut().ok_or("the tick has kept the desk")
    }

    /// Starts from a state, unless the controller has just reached it.
    #[inline(never)]
    fn state(&mut self, seq: u64, body: &[u8]) -> Result<(), Failure> {
        if self.config.is_empty() {
            return Ok(());
        }
        let Some(desk) = &mut self.desk else { return Err("the tick has kept the desk") };
        if !desk.is_at(seq) {
            desk.is_ready = if cfg!(feature = "resume") && self.has_our_states {
                resume(&mut desk.controller, body)?;
                true
            } else {
                // Before the first step there is nothing in a state that is not in the configuration.
                begin(&mut desk.controller, &self.config)?;
                seq == 0
            };
        }
        Ok(())
    }

    /// Lets the tick run; returns whether it did.
    #[inline(never)]
    fn step(&mut self, seq: u64, body: &[u8]) -> Result<bool, Failure> {
        let Some(desk) = self.desk.take() else { return Err("the tick has kept the desk") };
        let is_next = desk.is_at(seq);
        if is_next {
            trace::decode_tick_into(body, &mut desk.tick).map_err(|_| "a tick cannot be read")?;
            INBOX.put(desk);
            SCB::set_pendsv();
            cortex_m::asm::isb();
            self.desk = OUTBOX.take();
        } else {
            desk.is_ready = false;
            self.desk = Some(desk);
        }
        Ok(is_next)
    }

    /// Writes down what the tick has answered; the frame's memory is free now.
    #[inline(never)]
    fn answer(&mut self, seq: u64, buffer: &mut [u8]) -> Result<(), Failure> {
        let Some(desk) = &self.desk else { return Err("the tick has kept the desk") };
        if SNAPSHOT.latest().is_none_or(|snapshot| snapshot.ticks != seq.saturating_add(1)) {
            return Err("the snapshot is not of this tick");
        }
        #[cfg(feature = "log")]
        {
            crate::log::set_time(desk.tick.now);
            for event in &desk.outputs.events {
                defmt::info!("{}", event);
            }
        }
        let bytes = trace::outputs_bytes(&desk.outputs, buffer).map_err(|_| "outputs too long")?;
        let length = u16::try_from(bytes.len()).map_err(|_| "outputs too long")?;
        self.outputs.write(&seq.to_le_bytes())?;
        self.outputs.write(&length.to_le_bytes())?;
        self.outputs.write(bytes)?;
        self.costs.write(&desk.cost.to_le_bytes())
    }

    #[inline(never)]
    fn finish(&mut self) -> Result<(), Failure> {
        self.outputs.flush()?;
        let stack = stack::high_water().ok_or("the stack was too small")?;
        // The last number of the file is this one.
        self.costs.write(&stack.to_le_bytes())?;
        self.costs.flush()?;
        #[cfg(feature = "log")]
        {
            defmt::info!("{}", SNAPSHOT.latest());
            crate::log::finish()?;
        }
        Ok(())
    }
}

/// Starts a controller from the beginning.
#[inline(never)]
fn begin(controller: &mut Controller<WANS, STEERINGS>, config: &[u8]) -> Result<(), Failure> {
    let mut place = Config { tick: Duration::MIN, wans: Vec::new(), steering: None };
    trace::decode_config_into(config, &mut place)
        .map_err(|_| "the configuration cannot be read")?;
    begin_with(controller, &place)
}

#[inline(never)]
fn begin_with(
    controller: &mut Controller<WANS, STEERINGS>,
    config: &Config,
) -> Result<(), Failure> {
    controller.begin(config).map_err(|_| "the core refuses the configuration")
}

/// Starts a controller from a state.
#[cfg(feature = "resume")]
fn resume(controller: &mut Controller<WANS>, state: &[u8]) -> Result<(), Failure> {
    *controller = trace::decode_state(state).map_err(|_| "a state cannot be read")?;
    Ok(())
}

/// An image without that much memory never needs it.
#[cfg(not(feature = "resume"))]
fn resume(_: &mut Controller<WANS, STEERINGS>, _state: &[u8]) -> Result<(), Failure> {
    Err("this image starts from no state")
}
