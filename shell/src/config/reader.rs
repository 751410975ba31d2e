//! Strict reading of a TOML document: every problem is collected, with its place and a hint.

use std::collections::BTreeSet;
use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

use toml::de::{DeTable, DeValue};

use crate::exit::ExitReason;

/// One thing that is wrong with a configuration file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// What kind of problem it is; decides the exit code.
    pub reason: ExitReason,
    /// Line and column, both from 1.
    pub place: (usize, usize),
    /// The key and what it was set to, or just the key.
    pub subject: String,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
}

/// Everything that is wrong with one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problems {
    file: PathBuf,
    source: String,
    list: Vec<Problem>,
}

impl Problems {
    pub(super) fn new(file: &Path, source: &str) -> Self {
        Self { file: file.to_path_buf(), source: source.to_owned(), list: Vec::new() }
    }

    /// Returns the problems in the order of the file.
    #[must_use]
    pub fn list(&self) -> &[Problem] {
        &self.list
    }

    /// Returns the exit reason of the most basic problem.
    #[must_use]
    pub fn reason(&self) -> ExitReason {
        self.list.iter().map(|problem| problem.reason).min().unwrap_or(ExitReason::ConfigText)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    pub(super) fn sort(&mut self) {
        self.list.sort_by_key(|problem| problem.place);
    }

    pub(super) fn add(
        &mut self,
        reason: ExitReason,
        at: Range<usize>,
        subject: impl Into<String>,
        message: impl Into<String>,
        hint: Option<String>,
    ) {
        let place = place(&self.source, at.start);
        let (subject, message) = (subject.into(), message.into());
        self.list.push(Problem { reason, place, subject, message, hint });
    }

    fn source_at(&self, at: Range<usize>) -> &str {
        self.source.get(at).unwrap_or_default()
    }
}

fn place(source: &str, offset: usize) -> (usize, usize) {
    let before = source.get(..offset).unwrap_or(source);
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    let line = before.matches('\n').count() + 1;
    (line, before.get(line_start..).map_or(0, |text| text.chars().count()) + 1)
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.list.iter().enumerate() {
            if index > 0 {
                writeln!(f)?;
            }
            let (line, column) = problem.place;
            writeln!(f, "{}:{line}:{column}: {}", self.file.display(), problem.subject)?;
            write!(f, "  {}", problem.message)?;
            if let Some(hint) = &problem.hint {
                write!(f, "\n  hint: {hint}")?;
            }
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}

/// Why a value was refused.
#[derive(Debug, Clone)]
pub(super) struct Refusal {
    reason: ExitReason,
    message: String,
}

impl Refusal {
    /// The value is of the right kind but out of range.
    pub(super) fn out_of_range(message: impl Into<String>) -> Self {
        Self { reason: ExitReason::ConfigValue, message: message.into() }
    }
}

impl From<String> for Refusal {
    /// The value is of the wrong kind.
    fn from(message: String) -> Self {
        Self { reason: ExitReason::ConfigText, message }
    }
}

/// A value with its place, for checks that concern several keys.
#[derive(Debug, Clone)]
pub(super) struct Placed<T> {
    pub(super) value: T,
    pub(super) at: Range<usize>,
    pub(super) key: String,
}

/// One table of the document. Keys that nobody asked for are unknown and reported by
/// [`Section::finish`].
pub(super) struct Section<'a> {
    table: &'a DeTable<'a>,
    at: Range<usize>,
    path: String,
    known: BTreeSet<&'static str>,
}

impl<'a> Section<'a> {
    pub(super) fn new(table: &'a DeTable<'a>, at: Range<usize>, path: String) -> Self {
        Self { table, at, path, known: BTreeSet::new() }
    }

    fn key_path(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }

    fn find(&mut self, key: &'static str) -> Option<(&'a DeValue<'a>, Range<usize>)> {
        self.known.insert(key);
        let (_, value) = self.table.iter().find(|(name, _)| name.get_ref() == key)?;
        Some((value.get_ref(), value.span()))
    }

    /// Reads an optional key with a function that says what it expected.
    pub(super) fn optional<T, E: Into<Refusal>>(
        &mut self,
        problems: &mut Problems,
        key: &'static str,
        read: impl FnOnce(&'a DeValue<'a>) -> Result<T, E>,
    ) -> Option<Placed<T>> {
        let (value, at) = self.find(key)?;
        let path = self.key_path(key);
        match read(value) {
            Ok(value) => Some(Placed { value, at, key: path }),
            Err(refusal) => {
                let Refusal { reason, message } = refusal.into();
                let subject = format!("{path} = {}", problems.source_at(at.clone()));
                problems.add(reason, at, subject, message, None);
                None
            }
        }
    }

    /// Reads a key that must be there.
    pub(super) fn required<T, E: Into<Refusal>>(
        &mut self,
        problems: &mut Problems,
        key: &'static str,
        read: impl FnOnce(&'a DeValue<'a>) -> Result<T, E>,
    ) -> Option<Placed<T>> {
        if self.find(key).is_none() {
            let path = self.key_path(key);
            let message = "this key is required and missing";
            problems.add(ExitReason::ConfigText, self.at.clone(), path, message, None);
        }
        self.optional(problems, key, read)
    }

    /// Opens a sub-table.
    pub(super) fn table(
        &mut self,
        problems: &mut Problems,
        key: &'static str,
    ) -> Option<Section<'a>> {
        let path = self.key_path(key);
        let placed = self.optional(problems, key, |value| {
            value.as_table().ok_or_else(|| format!("expected a table [{path}]"))
        })?;
        Some(Self::new(placed.value, placed.at, placed.key))
    }

    /// Opens every element of an array of tables.
    pub(super) fn tables(
        &mut self,
        problems: &mut Problems,
        key: &'static str,
    ) -> Vec<Section<'a>> {
        let path = self.key_path(key);
        let expected = || format!("expected tables [[{path}]]");
        let placed = self.required(problems, key, |value| {
            let array = value.as_array().ok_or_else(expected)?;
            array
                .iter()
                .map(|item| Some((item.get_ref().as_table()?, item.span())))
                .collect::<Option<Vec<_>>>()
                .ok_or_else(expected)
        });
        let tables = placed.map_or(Vec::new(), |placed| placed.value);
        let section = |(table, at)| Self::new(table, at, path.clone());
        tables.into_iter().map(section).collect()
    }

    /// Returns whether a key is there, readable or not.
    pub(super) fn has(&mut self, key: &'static str) -> bool {
        self.find(key).is_some()
    }

    /// Returns the key of the section.
    pub(super) fn path(&self) -> &str {
        &self.path
    }

    /// Returns where the section begins.
    pub(super) fn at(&self) -> Range<usize> {
        self.at.clone()
    }

    /// Reports every key that nobody asked for.
    pub(super) fn finish(self, problems: &mut Problems) {
        for (name, _) in self.table {
            let name_text: &str = name.get_ref();
            if self.known.contains(name_text) {
                continue;
            }
            let nearest = self
                .known
                .iter()
                .map(|known| (strsim::damerau_levenshtein(known, name_text), known))
                .min()
                .filter(|(distance, _)| *distance <= 3)
                .map(|(_, known)| format!("did you mean `{known}`?"));
            let known = || format!("known here: {}", self.known_list());
            let hint = nearest.or_else(|| Some(known()));
            let path = self.key_path(name_text);
            problems.add(ExitReason::ConfigText, name.span(), path, "unknown key", hint);
        }
    }

    fn known_list(&self) -> String {
        self.known.iter().copied().collect::<Vec<_>>().join(", ")
    }
}
