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

/// The longest frame of a step, with full lists, has less than this (`core/tests/trace.rs`).
const STEP_BYTES: usize = 5 * 1024;

/// Memory for frames that may be states. Without `resume` no state is needed, and a frame is on the
/// stack, where the tick uses the same memory after it.
pub(crate) const FRAME_BYTES: usize =
    if cfg!(feature = "resume") { trace::MAX_STATE_BYTES } else { 0 };

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
    while let Some(todo) = replay.next(buffer)? {
        match todo {
            Todo::Nothing => {}
            Todo::Begin { is_ready } => replay.begin(is_ready)?,
            Todo::Step { seq } => {
                replay.step()?;
                replay.answer(seq)?;
            }
        }
    }
    replay.finish()
}

/// What follows from a frame when its memory is free again.
enum Todo {
    Nothing,
    /// Start from the configuration; nothing is known about later states.
    Begin {
        is_ready: bool,
    },
    /// Run the tick that was read.
    Step {
        seq: u64,
    },
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

    /// Reads one frame; `None` at the end.
    #[inline(never)]
    fn next(&mut self, memory: &mut [u8]) -> Result<Option<Todo>, Failure> {
        if cfg!(feature = "resume") {
            return self.read(memory);
        }
        let mut memory = [0; STEP_BYTES];
        self.read(&mut memory)
    }

    fn read(&mut self, memory: &mut [u8]) -> Result<Option<Todo>, Failure> {
        let Some(frame) = self.frames.read(memory)? else { return Ok(None) };
        // As on the host, a damaged frame costs one record.
        let Ok(payload) = trace::open(frame) else { return Ok(Some(Todo::Nothing)) };
        let todo = match trace::parse(payload).map_err(|_| "an intact frame cannot be read")? {
            Record::OtherFormat(_) => return Err("the recording is of another format"),
            Record::Header(header) => self.header(&header)?,
            Record::State { seq, body } => self.state(seq, body)?,
            Record::Step { seq, body } => self.tick(seq, body)?,
        };
        Ok(Some(todo))
    }

    #[inline(never)]
    fn header(&mut self, header: &Header<'_>) -> Result<Todo, Failure> {
        if self.config != header.config {
            self.config.clear();
            let copied = self.config.extend_from_slice(header.config);
            copied.map_err(|_| "the configuration is too long")?;
            self.desk()?.is_ready = false;
        }
        self.has_our_states = header.state_format == STATE_FORMAT;
        Ok(Todo::Nothing)
    }

    fn desk(&mut self) -> Result<&mut Desk, Failure> {
        self.desk.as_deref_mut().ok_or("the tick has kept the desk")
    }

    /// Starts from a state, unless the controller has just reached it.
    #[inline(never)]
    fn state(&mut self, seq: u64, body: &[u8]) -> Result<Todo, Failure> {
        let has_our_states = self.has_our_states;
        let has_config = !self.config.is_empty();
        let desk = self.desk()?;
        if !has_config || desk.is_at(seq) {
            Ok(Todo::Nothing)
        } else if cfg!(feature = "resume") && has_our_states {
            resume(&mut desk.controller, body)?;
            desk.is_ready = true;
            Ok(Todo::Nothing)
        } else {
            // Before the first step there is nothing in a state that is not in the configuration.
            Ok(Todo::Begin { is_ready: seq == 0 })
        }
    }

    fn begin(&mut self, is_ready: bool) -> Result<(), Failure> {
        let Some(desk) = &mut self.desk else { return Err("the tick has kept the desk") };
        begin(&mut desk.controller, &self.config)?;
        desk.is_ready = is_ready;
        Ok(())
    }

    /// Reads a tick if it is the next one.
    #[inline(never)]
    fn tick(&mut self, seq: u64, body: &[u8]) -> Result<Todo, Failure> {
        let desk = self.desk()?;
        if desk.is_at(seq) {
            trace::decode_tick_into(body, &mut desk.tick).map_err(|_| "a tick cannot be read")?;
            Ok(Todo::Step { seq })
        } else {
            desk.is_ready = false;
            Ok(Todo::Nothing)
        }
    }

    /// Lets the tick run.
    #[inline(never)]
    fn step(&mut self) -> Result<(), Failure> {
        let Some(desk) = self.desk.take() else { return Err("the tick has kept the desk") };
        INBOX.put(desk);
        SCB::set_pendsv();
        cortex_m::asm::isb();
        self.desk = OUTBOX.take();
        Ok(())
    }

    /// Writes down what the tick has answered.
    #[inline(never)]
    fn answer(&mut self, seq: u64) -> Result<(), Failure> {
        let Some(desk) = &self.desk else { return Err("the tick has kept the desk") };
        if SNAPSHOT.read(|snapshot| snapshot.ticks) != Some(seq.saturating_add(1)) {
            return Err("the snapshot is not of this tick");
        }
        #[cfg(feature = "log")]
        {
            crate::log::set_time(desk.tick.now);
            for event in &desk.outputs.events {
                defmt::info!("{}", event);
            }
        }
        let mut buffer = [0; STEP_BYTES];
        let bytes =
            trace::outputs_bytes(&desk.outputs, &mut buffer).map_err(|_| "outputs too long")?;
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
            let ticks = SNAPSHOT.read(|snapshot| snapshot.ticks);
            defmt::info!("{} ticks", ticks.unwrap_or_default());
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
