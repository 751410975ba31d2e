//! Feeding a recording to the core: what `wanctl-sim replay` does, in the memory of a board.

use core::ffi::CStr;

use cortex_m::peripheral::SCB;
use wanctl_core::config::Config;
use wanctl_core::trace::{self, Header, Record, STATE_FORMAT};

use crate::desk::Desk;
use crate::frames::Frames;
use crate::host::{Failure, File, Writer};
use crate::{INBOX, OUTBOX, SNAPSHOT, stack};

/// The longest frame that is looked at. Without `resume` no state record is needed.
pub(crate) const FRAME_BYTES: usize =
    if cfg!(feature = "resume") { trace::MAX_STATE_BYTES } else { trace::MAX_STEP_BYTES };

/// Files in the folder that the emulator was started in.
const RECORDING: &CStr = c"recording";
const OUTPUTS: &CStr = c"outputs";
const COSTS: &CStr = c"costs";

/// Replays the whole recording.
pub(crate) fn run(desk: &'static mut Desk, buffer: &'static mut [u8]) -> Result<(), Failure> {
    #[cfg(feature = "log")]
    crate::log::start()?;
    let mut frames = Frames::new(File::open(RECORDING)?);
    let mut replay = Replay {
        config: None,
        has_our_states: false,
        desk: Some(desk),
        outputs: Writer::create(OUTPUTS)?,
        costs: Writer::create(COSTS)?,
    };
    while let Some(frame) = frames.read(buffer)? {
        // As on the host, a damaged frame costs one record.
        if let Ok(length) = trace::open(frame).map(<[u8]>::len) {
            replay.take(buffer, length)?;
        }
    }
    replay.finish()
}

struct Replay {
    /// What the last header said.
    config: Option<Config>,
    /// Its states are of this version.
    has_our_states: bool,
    /// `None` only while the tick has it.
    desk: Option<&'static mut Desk>,
    outputs: Writer,
    costs: Writer,
}

impl Replay {
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

    fn header(&mut self, header: &Header<'_>) -> Result<(), Failure> {
        let config =
            trace::decode_config(header.config).map_err(|_| "the header cannot be read")?;
        if self.config.as_ref() != Some(&config) {
            self.config = Some(config);
            self.desk()?.is_ready = false;
        }
        self.has_our_states = header.state_format == STATE_FORMAT;
        Ok(())
    }

    fn desk(&mut self) -> Result<&mut Desk, Failure> {
        self.desk.as_deref_mut().ok_or("the tick has kept the desk")
    }

    /// Starts from a state, unless the controller has just reached it.
    fn state(&mut self, seq: u64, body: &[u8]) -> Result<(), Failure> {
        let Some(config) = &self.config else { return Ok(()) };
        let Some(desk) = &mut self.desk else { return Err("the tick has kept the desk") };
        if !desk.is_at(seq) {
            desk.is_ready = if cfg!(feature = "resume") && self.has_our_states {
                desk.controller =
                    trace::decode_state(body).map_err(|_| "a state cannot be read")?;
                true
            } else {
                // Before the first step there is nothing in a state that is not in the configuration.
                desk.controller.begin(config).map_err(|_| "the core refuses the configuration")?;
                seq == 0
            };
        }
        Ok(())
    }

    /// Lets the tick run; returns whether it did.
    fn step(&mut self, seq: u64, body: &[u8]) -> Result<bool, Failure> {
        let Some(desk) = self.desk.take() else { return Err("the tick has kept the desk") };
        let is_next = desk.is_at(seq);
        if is_next {
            desk.tick = trace::decode_tick(body).map_err(|_| "a tick cannot be read")?.0;
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

    fn finish(mut self) -> Result<(), Failure> {
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
