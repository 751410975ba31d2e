//! Who is pinged, and from which addresses.

use std::net::{IpAddr, Ipv6Addr};

use toml::de::DeValue;
use wanctl_core::tick::MAX_REFLECTORS;

use super::reader::{Placed, Problems, Refusal};
use crate::exit::ExitReason;
use crate::probe::MAX_POOL;

/// Reads `reflectors`.
pub(super) fn list(value: &DeValue<'_>) -> Result<Vec<IpAddr>, Refusal> {
    let expected = || format!("expected a list of 1 to {MAX_POOL} different IP addresses");
    let list = value.as_array().ok_or_else(expected)?;
    let mut addresses: Vec<IpAddr> = Vec::new();
    for item in list.iter() {
        let text = item.get_ref().as_str().unwrap_or_default();
        let other =
            |_| "expected an IP address such as \"192.0.2.1\" or \"2001:db8::1\"".to_owned();
        let address: IpAddr = text.parse().map_err(other)?;
        if addresses.contains(&address.to_canonical()) {
            return Err(Refusal::out_of_range(expected()));
        }
        addresses.push(address.to_canonical());
    }
    if (1..=MAX_POOL).contains(&addresses.len()) {
        Ok(addresses)
    } else {
        Err(Refusal::out_of_range(expected()))
    }
}

/// Reads `active-reflectors`.
pub(super) fn active(value: &DeValue<'_>) -> Result<u8, Refusal> {
    let expected = || Refusal::out_of_range(format!("expected 1 to {MAX_REFLECTORS}"));
    let integer = value.as_integer().ok_or_else(expected)?;
    let count = u8::from_str_radix(integer.as_str(), integer.radix());
    let fits = |count: &u8| (1..=MAX_REFLECTORS).contains(&usize::from(*count));
    count.ok().filter(fits).ok_or_else(expected)
}

/// Reads `source-address-v6`.
pub(super) fn source_v6(value: &DeValue<'_>) -> Result<Ipv6Addr, String> {
    let text = value.as_str().unwrap_or_default();
    text.parse().map_err(|_| "expected an IPv6 address such as \"2001:db8::1\"".to_owned())
}

/// Complains about more slots than reflectors.
pub(super) fn check_active(
    reflectors: Option<&Placed<Vec<IpAddr>>>,
    active: Option<&Placed<u8>>,
    problems: &mut Problems,
) {
    let (Some(reflectors), Some(active)) = (reflectors, active) else { return };
    let count = reflectors.value.len();
    if usize::from(active.value) > count {
        let message = format!("only {count} reflectors are configured");
        let (at, key) = (active.at.clone(), active.key.clone());
        problems.add(ExitReason::ConfigValue, at, key, message, None);
    }
}

/// Complains about probes of one IP version that would leave by whatever line the routes choose,
/// while those of the other have their way.
pub(super) fn check_sources(
    reflectors: Option<&Placed<Vec<IpAddr>>>,
    has_source: [bool; 2],
    has_way: bool,
    problems: &mut Problems,
) {
    let Some(reflectors) = reflectors else { return };
    let [has_v4, has_v6] = has_source;
    let strays = |address: &IpAddr| match address {
        IpAddr::V4(_) => has_v6 && !has_v4,
        IpAddr::V6(_) => has_v4 && !has_v6,
    };
    if let Some(address) = reflectors.value.iter().find(|address| !has_way && strays(address)) {
        let message = format!(
            "{address} would be pinged by whatever line the routes choose: the source address is of \
             the other IP version"
        );
        let hint = "set `source-address` and `source-address-v6`, or `interface` or `fwmark`";
        let (at, key) = (reflectors.at.clone(), reflectors.key.clone());
        problems.add(ExitReason::ConfigValue, at, key, message, Some(hint.to_owned()));
    }
}
