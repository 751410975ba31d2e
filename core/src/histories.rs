//! The histories of all WANs, in one place that is filled where it is.

use core::fmt;

use serde::de::{Error as _, SeqAccess, Visitor};
use serde::ser::SerializeSeq as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::config::{Config, WanConfig};
use crate::recent::WanHistory;
use crate::units::PerDirection;

/// One history per WAN. A list would move each of them on its way in, twice the 35 KB on a board's
/// stack; this only ever empties them. It is written as a list.
#[derive(Debug, Clone)]
pub(crate) struct Histories<const WANS: usize> {
    count: usize,
    each: [WanHistory; WANS],
}

impl<const WANS: usize> Histories<WANS> {
    pub(crate) const fn empty() -> Self {
        Self { count: 0, each: [const { WanHistory::empty() }; WANS] }
    }

    /// Begins an empty history for every WAN of a configuration.
    pub(crate) fn begin(&mut self, config: &Config) {
        self.count = config.wans.len().min(WANS);
        for (history, wan) in self.each.iter_mut().zip(&config.wans) {
            let PerDirection { download, upload } = &wan.shapers;
            history.begin(download.ceiling, upload.ceiling);
        }
    }

    /// Takes over the past of every WAN whose rates are counted in the same unit.
    pub(crate) fn take_over(&mut self, before: &Self, (old, new): (&Config, &Config)) {
        let configs = old.wans.iter().zip(&new.wans);
        for ((history, past), (old, new)) in self.iter_mut().zip(before.iter()).zip(configs) {
            let unit = |wan: &WanConfig| {
                (wan.shapers.download.ceiling, wan.shapers.upload.ceiling, wan.reflectors)
            };
            if unit(old) == unit(new) {
                history.clone_from(past);
            }
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &WanHistory> {
        self.each.iter().take(self.count)
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut WanHistory> {
        self.each.iter_mut().take(self.count)
    }
}

impl<const WANS: usize> Serialize for Histories<WANS> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut list = serializer.serialize_seq(Some(self.count))?;
        for history in self.iter() {
            list.serialize_element(history)?;
        }
        list.end()
    }
}

impl<'de, const WANS: usize> Deserialize<'de> for Histories<WANS> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(HistoriesVisitor)
    }
}

struct HistoriesVisitor<const WANS: usize>;

impl<'de, const WANS: usize> Visitor<'de> for HistoriesVisitor<WANS> {
    type Value = Histories<WANS>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the histories of at most {WANS} WANs")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Histories<WANS>, A::Error> {
        let mut histories = Histories::empty();
        while let Some(history) = list.next_element()? {
            let place = histories.each.get_mut(histories.count);
            *place.ok_or_else(|| A::Error::custom("too many WANs"))? = history;
            histories.count = histories.count.saturating_add(1);
        }
        Ok(histories)
    }
}
