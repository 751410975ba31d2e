//! Running an image in QEMU and comparing what comes out.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};

use super::Board;
use super::build::Image;
use crate::run::{run as run_command, target};

/// How long a run may take, in seconds.
const TIMEOUT_S: &str = "1800";
/// Bytes in front of the outputs of each step: its number and the length.
const HEAD_BYTES: usize = 10;

/// What came out.
#[derive(Debug)]
pub(super) struct Run {
    pub(super) outputs: Vec<u8>,
    /// Instructions of every tick.
    pub(super) costs: Vec<u32>,
    /// High-water mark of the stack, in bytes.
    pub(super) stack_bytes: u32,
    pub(super) log_lines: usize,
}

/// Runs an image on a recording.
pub(super) fn run(board: &Board, image: &Image, recording: &Path) -> Result<Run> {
    let folder = target().join("board/run");
    if folder.exists() {
        fs::remove_dir_all(&folder)?;
    }
    fs::create_dir_all(&folder)?;
    fs::copy(recording, folder.join("recording"))?;
    let mut qemu = Command::new("timeout");
    qemu.current_dir(&folder)
        .args([TIMEOUT_S, "qemu-system-arm", "-M", board.machine])
        .args(["-nographic", "-monitor", "none", "-serial", "none"])
        .args(["-semihosting-config", "enable=on,target=native"])
        // One instruction is 1024 ns of the guest's time: its timer counts instructions.
        .args(["-icount", "shift=10,align=off,sleep=off"])
        .arg("-kernel")
        .arg(&image.elf)
        .stdin(Stdio::null());
    run_command(&mut qemu)?;
    let numbers = fs::read(folder.join("costs"))?;
    let mut numbers: Vec<u32> =
        numbers.as_chunks().0.iter().map(|bytes| u32::from_le_bytes(*bytes)).collect();
    let stack_bytes = numbers.pop().context("the board has written no figures")?;
    // 25 MHz: 25.6 ticks of the timer for one instruction.
    let costs = numbers.into_iter().map(|timer| (timer * 10 + 128) / 256).collect();
    let log = fs::read(folder.join("log"))?;
    // defmt has zero bytes between lines and nowhere else.
    let log_lines = log.split(|byte| *byte == 0).filter(|line| !line.is_empty()).count();
    let outputs = fs::read(folder.join("outputs"))?;
    Ok(Run { outputs, costs, stack_bytes, log_lines })
}

/// Compares all bytes, and names the first step that differs.
pub(super) fn compare(host: &[u8], board: &[u8]) -> Result<()> {
    if host == board {
        return Ok(());
    }
    let (mut host, mut board) = (host, board);
    let mut index = 0_u64;
    loop {
        match (split_step(&mut host), split_step(&mut board)) {
            (Some(one), Some(other)) if one == other => index += 1,
            (Some((seq, one)), Some((_, other))) => bail!(
                "DIFFERENT after {index} identical steps, in step {seq}\n  host:  {one:02x?}\n  \
                 board: {other:02x?}"
            ),
            (one, other) => bail!(
                "DIFFERENT after {index} identical steps: the host has {}, the board {}",
                if one.is_some() { "more" } else { "no more" },
                if other.is_some() { "more" } else { "no more" },
            ),
        }
    }
}

fn split_step<'a>(bytes: &mut &'a [u8]) -> Option<(u64, &'a [u8])> {
    let (head, rest) = bytes.split_first_chunk::<HEAD_BYTES>()?;
    let (seq, length) = head.split_first_chunk()?;
    let length = usize::from(u16::from_le_bytes(*length.first_chunk()?));
    let (outputs, rest) = rest.split_at_checked(length)?;
    *bytes = rest;
    Some((u64::from_le_bytes(*seq), outputs))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(seq: u64, outputs: &[u8]) -> Vec<u8> {
        let length = u16::try_from(outputs.len()).unwrap();
        [&seq.to_le_bytes()[..], &length.to_le_bytes(), outputs].concat()
    }

    #[test]
    fn the_first_step_that_differs_is_named() {
        let host = [step(7, &[1]), step(8, &[2, 3]), step(9, &[])].concat();
        assert!(compare(&host, &host).is_ok());
        let board = [step(7, &[1]), step(8, &[2, 4]), step(9, &[])].concat();
        let told = compare(&host, &board).unwrap_err().to_string();
        assert!(told.starts_with("DIFFERENT after 1 identical steps, in step 8"), "{told}");
        let told = compare(&host, &host[..11]).unwrap_err().to_string();
        assert!(told.ends_with("the host has more, the board no more"), "{told}");
    }
}
