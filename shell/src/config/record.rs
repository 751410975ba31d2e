//! The `[record]` table.

use std::path::Path;

use toml::de::DeValue;

use super::load::{boolean, string};
use super::quantity;
use super::reader::{Problems, Refusal, Section};
use crate::trace_file::ring::{FlightConfig, SIZE_DEFAULT, SIZE_MAX, SIZE_MIN, show_bytes};

/// The ring's folder in the folder of the state, unless configured.
const FOLDER: &str = "record";

/// Returns where to record; nowhere if it is switched off or no folder is known.
pub(super) fn read(
    section: Option<Section<'_>>,
    folder: &Path,
    state_dir: Option<&Path>,
    problems: &mut Problems,
) -> Option<FlightConfig> {
    let in_state_dir = state_dir.map(|state_dir| state_dir.join(FOLDER));
    let Some(mut section) = section else {
        return in_state_dir.map(|folder| FlightConfig { folder, size: SIZE_DEFAULT });
    };
    let enabled = section.optional(problems, "enabled", boolean);
    let directory = section.optional(problems, "directory", string);
    let size = section.optional(problems, "size", size);
    section.finish(problems);
    let directory = directory.map(|placed| folder.join(placed.value)).or(in_state_dir);
    let is_enabled = enabled.is_none_or(|placed| placed.value);
    let size = size.map_or(SIZE_DEFAULT, |placed| placed.value);
    directory.filter(|_| is_enabled).map(|folder| FlightConfig { folder, size })
}

fn size(value: &DeValue<'_>) -> Result<u64, Refusal> {
    let size = quantity::size(value.as_str().unwrap_or_default())?;
    if (SIZE_MIN..=SIZE_MAX).contains(&size) {
        Ok(size)
    } else {
        let message = format!("must be {} to {}", show_bytes(SIZE_MIN), show_bytes(SIZE_MAX));
        Err(Refusal::out_of_range(message))
    }
}
