//! What is wrong with a file a user gave: where, and what was expected.

use std::fmt;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

/// A file cannot be used. The command ends with an exit code of its own before anything runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InputError {
    file: PathBuf,
    line: Option<usize>,
    what: String,
}

impl InputError {
    /// Names a line, counted from one.
    #[must_use]
    pub fn at(file: &Path, line: usize, what: impl Into<String>) -> Self {
        Self { file: file.to_owned(), line: Some(line), what: what.into() }
    }

    /// Names the whole file.
    #[must_use]
    pub fn whole(file: &Path, what: impl Into<String>) -> Self {
        Self { file: file.to_owned(), line: None, what: what.into() }
    }
}

impl fmt::Display for InputError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file.display())?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
        }
        write!(f, ": {}", self.what)
    }
}

impl std::error::Error for InputError {}

/// Where values were read, so that it can be said which one is wrong.
#[derive(Debug, Clone, Copy)]
pub struct Place<'p> {
    /// The file.
    pub file: &'p Path,
    /// Its line, counted from one.
    pub line: usize,
}

impl Place<'_> {
    /// Says what is wrong here.
    #[must_use]
    pub fn error(&self, what: impl Into<String>) -> InputError {
        InputError::at(self.file, self.line, what)
    }

    /// Refuses a value that is out of its range or no number at all.
    ///
    /// # Errors
    ///
    /// With the key, its range and the value.
    pub fn within<T: PartialOrd + fmt::Display>(
        &self,
        key: &str,
        value: T,
        range: RangeInclusive<T>,
    ) -> Result<T, InputError> {
        if range.contains(&value) {
            return Ok(value);
        }
        let (least, most) = range.into_inner();
        Err(self.error(format!("expected {key} from {least} to {most}, not {value}")))
    }
}

/// Takes off the mark that some editors write before the text (BOM).
#[must_use]
pub fn without_mark(text: &str) -> &str {
    text.strip_prefix('\u{feff}').unwrap_or(text)
}

/// Returns the line, from one, of a place in a text.
#[must_use]
pub fn line_of(text: &str, offset: usize) -> usize {
    let before = text.as_bytes().get(..offset).unwrap_or(text.as_bytes());
    before.iter().filter(|&&byte| byte == b'\n').count() + 1
}

/// Tells what is wrong with a TOML file.
#[must_use]
pub fn of_toml(path: &Path, text: &str, error: &toml::de::Error) -> InputError {
    let what = error.message().replace('\n', " ");
    match error.span() {
        Some(span) => InputError::at(path, line_of(text, span.start), what),
        None => InputError::whole(path, what),
    }
}
