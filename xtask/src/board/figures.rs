//! The figures of `docs/boards.md`, and the limits they must keep.

use std::fmt::Write as _;
use std::fs;
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use super::Board;
use super::build::Image;
use super::qemu::Run;
use crate::run::{output, root};

/// The most instructions of one tick on a Cortex-M4: about 1 ms at 64 MHz.
const INSTRUCTIONS_MAX: u32 = 60_000;
const KIB: u32 = 1024;

const BEGIN: &str = "<!-- figures, written by cargo xtask board -->\n";
const END: &str = "<!-- end of the figures -->";

/// The figures of one image on one board.
#[derive(Debug)]
pub(super) struct Row {
    board: &'static str,
    target: &'static str,
    compiler: String,
    wans: u8,
    /// Ticks that were identical.
    ticks: usize,
    flash: u32,
    ram_static: u32,
    stack: u32,
    median: u32,
    worst: u32,
    /// The board is the one with limits.
    has_limits: bool,
    /// The image has more memory, to start from states.
    has_resumed: bool,
}

impl Row {
    pub(super) fn new(board: &Board, image: &Image, run: &Run) -> Result<Self> {
        let sizes = output(Command::new("arm-none-eabi-size").arg("-A").arg(&image.elf))?;
        let size = |sections: &[&str]| sections.iter().map(|name| section(&sizes, name)).sum();
        let mut costs = run.costs.clone();
        costs.sort_unstable();
        Ok(Self {
            board: board.name,
            target: board.target,
            compiler: image.compiler.clone(),
            wans: image.variant.wans,
            ticks: costs.len(),
            flash: size(&[".vector_table", ".text", ".rodata", ".data"]),
            ram_static: size(&[".data", ".bss", ".uninit"]),
            stack: run.stack_bytes,
            median: costs.get(costs.len() / 2).copied().unwrap_or_default(),
            worst: costs.last().copied().unwrap_or_default(),
            has_limits: board.limits,
            has_resumed: image.variant.resume,
        })
    }

    const fn ram(&self) -> u32 {
        self.ram_static + self.stack
    }

    /// Returns what is over its limit.
    fn excesses(&self) -> Vec<String> {
        let limits = match self.wans {
            _ if self.has_resumed => (None, None),
            1 => (Some(64 * KIB), Some(64 * KIB)),
            2 => (None, Some(128 * KIB)),
            _ => (None, None),
        };
        let figures = [
            ("bytes of flash", self.flash, limits.0),
            ("bytes of RAM", self.ram(), limits.1),
            ("instructions in the worst tick", self.worst, Some(INSTRUCTIONS_MAX)),
        ];
        let over = figures.into_iter().filter_map(|(what, is, most)| {
            let most = most.filter(|most| self.has_limits && is > *most)?;
            Some(format!("{}, {} WAN(s): {is} {what}, at most {most}", self.board, self.wans))
        });
        over.collect()
    }
}

/// Returns the size of a section, 0 if there is none.
fn section(sizes: &str, name: &str) -> u32 {
    let mut lines = sizes.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let words = lines.find(|words| words.first() == Some(&name));
    words.and_then(|words| words.get(1)?.parse().ok()).unwrap_or_default()
}

/// Fails if a figure is over its limit.
pub(super) fn check_limits(rows: &[Row]) -> Result<()> {
    let over: Vec<String> = rows.iter().flat_map(Row::excesses).collect();
    if over.is_empty() { Ok(()) } else { bail!("{}", over.join("\n")) }
}

/// Returns the figures as a table for people.
pub(super) fn table(rows: &[Row]) -> String {
    let mut table = String::from(
        "| Board | WANs | flash, bytes | RAM, bytes | of it stack | instructions per tick: \
         median | worst | identical ticks |\n|---|---|---|---|---|---|---|---|\n",
    );
    for row in rows {
        // Writing into a text cannot fail.
        let _never = writeln!(
            table,
            "| {} ({}) | {} | {} | {} | {} | {} | {} | {} |",
            row.board,
            row.target,
            row.wans,
            row.flash,
            row.ram(),
            row.stack,
            row.median,
            row.worst,
            row.ticks
        );
    }
    if let Some(row) = rows.first() {
        let _never = writeln!(table, "\nBuilt by {}.", row.compiler);
    }
    table
}

/// Puts the figures into the documentation.
pub(super) fn write(rows: &[Row]) -> Result<()> {
    let file = root().join("docs/boards.md");
    let text = fs::read_to_string(&file).context("docs/boards.md")?;
    let (head, rest) = text.split_once(BEGIN).context("docs/boards.md has no place for figures")?;
    let (_, tail) = rest.split_once(END).context("docs/boards.md has no end of the figures")?;
    fs::write(file, [head, BEGIN, &table(rows), END, tail].concat())?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(wans: u8) -> Row {
        Row {
            board: "Cortex-M4F",
            target: "thumbv7em-none-eabihf",
            compiler: "rustc 1.96.0".to_owned(),
            wans,
            ticks: 120_000,
            flash: 60_000,
            ram_static: 40_000,
            stack: 20_000,
            median: 3_000,
            worst: 59_000,
            has_limits: true,
            has_resumed: false,
        }
    }

    #[test]
    fn every_limit_is_enforced() {
        assert!(check_limits(&[row(1), row(2)]).is_ok());
        let over = |change: fn(&mut Row), wans| {
            let mut row = row(wans);
            change(&mut row);
            check_limits(&[row]).is_err()
        };
        assert!(over(|row| row.flash = 65_537, 1));
        assert!(!over(|row| row.flash = 65_537, 2));
        assert!(over(|row| row.stack = 25_537, 1));
        assert!(!over(|row| row.stack = 25_537, 2));
        assert!(over(|row| row.stack = 91_073, 2));
        assert!(over(|row| row.worst = 60_001, 1));
        assert!(over(|row| row.worst = 60_001, 2));
    }

    #[test]
    fn sizes_of_sections_are_found() {
        let sizes = "image :\nsection size addr\n.text 46104 1024\n.data  1160 536870912\n";
        assert_eq!(section(sizes, ".text"), 46_104);
        assert_eq!(section(sizes, ".data"), 1_160);
        assert_eq!(section(sizes, ".uninit"), 0);
    }
}
