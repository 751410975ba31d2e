//! Compilers for boards, images, and the proof that they cannot panic.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail, ensure};

use super::Board;
use crate::run::{cargo, install_packages, output, root, run, show, target};

/// The symbol that is defined nowhere and that a panic would need.
const PANIC_SYMBOL: &str = "wanctl_a_panic_can_be_reached";
const RUSTFLAGS: &str = "-C linker-flavor=ld";
/// For the smallest code, where flash is short: few functions are inlined, and LLVM makes functions of what is repeated. It needs
/// a little inlining to see that checks are needless.
const SMALLEST: &str = " -C llvm-args=-inline-threshold=40 -C llvm-args=-enable-machine-outliner";
/// Debian's compiler, from the package rustc-web.
const DEBIAN_RUSTC: &str = "/usr/bin/rustc";

/// How something is compiled for a target.
#[derive(Debug)]
pub(crate) struct Toolchain {
    /// Instead of the one that cargo would take.
    rustc: Option<&'static str>,
    /// The target's library is built as well.
    builds_std: bool,
}

impl Toolchain {
    /// Takes what rustup has; installs Debian's compiler and its sources where that is not enough.
    pub(crate) fn find(target: &str) -> Result<Self> {
        let sysroot = sysroot("rustc")?;
        if sysroot.join("lib/rustlib").join(target).join("lib").is_dir() {
            return Ok(Self { rustc: None, builds_std: false });
        }
        if has_sources(&sysroot) {
            return Ok(Self { rustc: None, builds_std: true });
        }
        if !Path::new(DEBIAN_RUSTC).exists() || !has_sources(&self::sysroot(DEBIAN_RUSTC)?) {
            install_packages(&["rustc-web", "rust-web-src"])?;
        }
        ensure!(has_sources(&self::sysroot(DEBIAN_RUSTC)?), "rust-web-src brings no sources");
        Ok(Self { rustc: Some(DEBIAN_RUSTC), builds_std: true })
    }

    /// Returns a command that builds in a folder of its own.
    pub(crate) fn cargo(&self, library: &str, args: &[&str]) -> Command {
        let mut command = cargo(args);
        // Flags for the host have no business here.
        command.env_remove("RUSTFLAGS").env_remove("CARGO_ENCODED_RUSTFLAGS");
        command.env("CARGO_TARGET_DIR", target().join("board"));
        if let Some(rustc) = self.rustc {
            command.env("RUSTC", rustc);
        }
        if self.builds_std {
            // `-Z` on a compiler that is not a nightly one.
            command.env("RUSTC_BOOTSTRAP", "1").arg(format!("-Zbuild-std={library}"));
            if library == "core" {
                command.arg("-Zbuild-std-features=optimize_for_size");
            }
        }
        command
    }

    /// Returns what is used, for the documentation.
    pub(crate) fn version(&self) -> Result<String> {
        let version = output(Command::new(self.rustc.unwrap_or("rustc")).arg("--version"))?;
        // Only name and number.
        Ok(version.split_whitespace().take(2).collect::<Vec<_>>().join(" "))
    }
}

fn sysroot(rustc: &str) -> Result<PathBuf> {
    Ok(output(Command::new(rustc).args(["--print", "sysroot"]).current_dir(root()))?.trim().into())
}

fn has_sources(sysroot: &Path) -> bool {
    sysroot.join("lib/rustlib/src/rust/library/core/src/lib.rs").is_file()
}

/// What an image is built for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Variant {
    pub(super) wans: u8,
    /// It can start from any state of a recording.
    pub(super) resume: bool,
}

impl Variant {
    /// Returns the memory that the linker gives to the image, in KiB.
    const fn ram_kib(self, board: &Board) -> u32 {
        match self.wans {
            _ if self.resume => 3072,
            1 if board.limits => 64,
            1 | 2 => 128,
            _ => 256,
        }
    }

    const fn flash_kib(self, board: &Board) -> u32 {
        if board.limits && self.wans == 1 && !self.resume { 64 } else { 256 }
    }
}

/// A linked image: proof that it cannot panic.
#[derive(Debug)]
pub(super) struct Image {
    pub(super) elf: PathBuf,
    pub(super) variant: Variant,
    pub(super) compiler: String,
}

impl Image {
    /// Builds and links.
    pub(super) fn build(board: &Board, toolchain: &Toolchain, variant: Variant) -> Result<Self> {
        let features: &[&str] = if variant.resume { &["resume"] } else { &[] };
        let built = link(board, toolchain, variant, features)?;
        let elf = built.with_file_name(format!("wanctl-board-{}", variant.wans));
        fs::copy(built, &elf)?;
        refuse_formatting(&elf)?;
        Ok(Self { elf, variant, compiler: toolchain.version()? })
    }
}

/// Builds an image and returns where it is, until the next one takes its place.
fn link(
    board: &Board,
    toolchain: &Toolchain,
    variant: Variant,
    features: &[&str],
) -> Result<PathBuf> {
    run(&mut command(board, toolchain, variant, features)).with_context(|| {
        format!(
            "no image for {}. If {PANIC_SYMBOL} is undefined, a panic can be reached; \
             docs/boards.md says how to find it",
            board.name
        )
    })?;
    Ok(target().join("board").join(board.target).join("release/wanctl-board"))
}

fn command(board: &Board, toolchain: &Toolchain, variant: Variant, features: &[&str]) -> Command {
    let mut build = toolchain.cargo("core", &["build", "--locked", "-q", "--release"]);
    let variable = board.target.to_uppercase().replace('-', "_");
    let mut flags = RUSTFLAGS.to_owned();
    if features.contains(&"everything") || variant.resume {
        // What can be reached does not depend on sizes, but how much of it the compiler sees does.
        build.env("CARGO_PROFILE_RELEASE_OPT_LEVEL", "s");
    } else if variant.wans == 1 {
        flags += SMALLEST;
    } else {
        // A limit on flash is only there for one WAN; more of them need the time.
        build.env("CARGO_PROFILE_RELEASE_OPT_LEVEL", "3");
    }
    build
        .current_dir(root().join("core/board"))
        .args(["--target", board.target, "--features", &features.join(",")])
        .env(format!("CARGO_TARGET_{variable}_LINKER"), "arm-none-eabi-ld")
        .env(format!("CARGO_TARGET_{variable}_RUSTFLAGS"), flags)
        .env("WANCTL_BOARD_WANS", variant.wans.to_string())
        .env("WANCTL_BOARD_RAM_KIB", variant.ram_kib(board).to_string())
        .env("WANCTL_BOARD_FLASH_KIB", variant.flash_kib(board).to_string());
    build
}

/// Links an image that reaches all of the core. Then one that can panic, which must not link: else
/// the other links would prove nothing.
pub(super) fn prove(board: &Board, toolchain: &Toolchain) -> Result<()> {
    let variant = Variant { wans: 4, resume: true };
    link(board, toolchain, variant, &["everything"])?;
    let variant = Variant { wans: 1, resume: false };
    let mut build = command(board, toolchain, variant, &["canary"]);
    eprintln!("+ {} (must fail)", show(&build));
    let result = build.stdin(Stdio::null()).output()?;
    let told = String::from_utf8_lossy(&result.stderr);
    if result.status.success() || !told.contains(PANIC_SYMBOL) {
        bail!("an image that can panic is not refused by the linker:\n{told}");
    }
    println!("{}: nothing in the core can panic; an image that can does not link", board.name);
    Ok(())
}

/// Fails if machinery of `core::fmt` is in the image.
fn refuse_formatting(elf: &Path) -> Result<()> {
    let symbols = output(Command::new("arm-none-eabi-nm").arg(elf))?;
    match symbols.lines().find(|line| line.contains("4core3fmt")) {
        Some(line) => bail!("formatting is in the image: {line}"),
        None => Ok(()),
    }
}
