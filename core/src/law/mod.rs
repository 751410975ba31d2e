//! Control laws: from a delay to a wanted shaper rate.

pub mod adaptive;
pub mod classic;
