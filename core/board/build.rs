//! Writes the linker's memory map and the number of WANs, both chosen by environment variables.

use std::error::Error;
use std::path::PathBuf;
use std::{env, fs};

/// QEMU's mps2 boards have 4 MiB at each of these addresses; the image gets only what is named below.
const FLASH_ORIGIN: &str = "0x00000000";
const RAM_ORIGIN: &str = "0x20000000";

fn main() -> Result<(), Box<dyn Error>> {
    let wans = number("WANCTL_BOARD_WANS", 1)?;
    let flash_kib = number("WANCTL_BOARD_FLASH_KIB", 64)?;
    let ram_kib = number("WANCTL_BOARD_RAM_KIB", 64)?;
    let out = PathBuf::from(env::var("OUT_DIR")?);
    let memory = format!(
        "MEMORY {{\n  FLASH : ORIGIN = {FLASH_ORIGIN}, LENGTH = {flash_kib}K\n  \
         RAM : ORIGIN = {RAM_ORIGIN}, LENGTH = {ram_kib}K\n}}\n"
    );
    fs::write(out.join("memory.x"), memory)?;
    // No interrupt has a name that a handler could be given.
    fs::write(out.join("device.x"), "")?;
    fs::write(out.join("wans.rs"), format!("{wans}"))?;
    println!("cargo::rustc-link-search={}", out.display());
    println!("cargo::rustc-link-arg=--nmagic");
    println!("cargo::rustc-link-arg=-Tlink.x");
    if env::var_os("CARGO_FEATURE_LOG").is_some() {
        println!("cargo::rustc-link-arg=-Tdefmt.x");
    }
    Ok(())
}

fn number(variable: &str, otherwise: u32) -> Result<u32, Box<dyn Error>> {
    println!("cargo::rerun-if-env-changed={variable}");
    match env::var(variable) {
        Ok(text) => Ok(text.parse()?),
        Err(_) => Ok(otherwise),
    }
}
