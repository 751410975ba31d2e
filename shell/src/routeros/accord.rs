//! What is wrong with a queue or a rule on the router.

use std::fmt;

use super::model::{MangleRule, Queue};
use crate::shaping::Complaint;

/// What is wrong with a queue besides its rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Finding {
    /// There is none of its name any more.
    Missing,
    /// There are several of its name.
    Several,
    /// It is switched off.
    Disabled,
    /// Something it refers to is gone.
    Invalid,
    /// Its queue type is gone: the router shows the id of what it was.
    NoType,
}

impl Finding {
    /// Looks at the queues of one name; returns the one, if there is one, and what is wrong.
    pub(crate) fn of<'q>(
        named: impl Iterator<Item = &'q Queue>,
    ) -> (Option<&'q Queue>, Option<Self>) {
        let (queue, finding) = Self::of_one(named);
        let finding =
            finding.or_else(|| match queue.map(|queue| (queue.disabled, queue.invalid)) {
                Some((true, _)) => Some(Self::Disabled),
                Some((false, true)) => Some(Self::Invalid),
                Some((false, false)) | None => {
                    let has_lost = queue.is_some_and(|queue| queue.queue_type.starts_with('*'));
                    has_lost.then_some(Self::NoType)
                }
            });
        (queue, finding)
    }

    /// Looks at the rules of one comment; one that is switched off is as good as any.
    pub(crate) fn of_rules<'r>(
        named: impl Iterator<Item = &'r MangleRule>,
    ) -> (Option<&'r MangleRule>, Option<Self>) {
        let (rule, finding) = Self::of_one(named);
        let is_invalid = rule.is_some_and(|rule| rule.invalid);
        (rule, finding.or(is_invalid.then_some(Self::Invalid)))
    }

    /// Returns what status and health say about it; the log has the advice.
    pub(crate) fn complaint(self, whose: &str, is_serious: bool) -> Complaint {
        let what = self.to_string();
        let what = what.split("; hint:").next().unwrap_or_default();
        Complaint { text: format!("{whose} {what}"), is_serious }
    }

    fn of_one<T>(mut named: impl Iterator<Item = T>) -> (Option<T>, Option<Self>) {
        match (named.next(), named.next()) {
            (None, _) => (None, Some(Self::Missing)),
            (Some(_), Some(_)) => (None, Some(Self::Several)),
            (only, None) => (only, None),
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Missing => "is gone",
            Self::Several => "is there more than once",
            Self::Disabled => "is disabled and does not shape",
            Self::NoType => "has lost its queue type; hint: give it a type of kind cake",
            Self::Invalid => {
                "is invalid and does nothing; hint: does the interface or parent it names exist?"
            }
        })
    }
}
