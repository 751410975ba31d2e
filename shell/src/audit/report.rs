//! What an audit tells.

use std::fmt;

use super::{Audit, Severity};
use crate::exit::{ExitReason, Failure};

impl Severity {
    const fn name(self) -> &'static str {
        match self {
            Self::Note => "note",
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }
}

impl Audit {
    fn count(&self, severity: Severity) -> usize {
        self.findings.iter().filter(|finding| finding.severity == severity).count()
    }

    /// Returns the end that the findings call for; `None` if there is nothing worse than notes.
    #[must_use]
    pub fn failure(&self) -> Option<Failure> {
        let of = |severity| {
            let found = self.findings.iter().filter(move |finding| finding.severity == severity);
            // What is the most basic comes first.
            found.map(|finding| finding.reason).min()
        };
        if let Some(reason) = of(Severity::Error) {
            return Some(Failure::new(reason, "the router does not fit; see the errors above"));
        }
        of(Severity::Warning).map(|_| {
            let message = "the router can be used, but see the warnings above";
            Failure::new(ExitReason::RouterWeak, message)
        })
    }
}

impl fmt::Display for Audit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for line in &self.state {
            writeln!(f, "{line}")?;
        }
        for finding in &self.findings {
            writeln!(f, "{}: {}", finding.severity.name(), finding.what)?;
            writeln!(f, "    remedy: {}", finding.remedy)?;
        }
        let [errors, warnings, notes] =
            [Severity::Error, Severity::Warning, Severity::Note].map(|severity| {
                let count = self.count(severity);
                let plural = if count == 1 { "" } else { "s" };
                format!("{count} {}{plural}", severity.name())
            });
        write!(f, "{errors}, {warnings}, {notes}; nothing was changed on the router")
    }
}
