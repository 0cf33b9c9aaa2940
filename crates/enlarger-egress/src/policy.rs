//! Which addresses are public.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::LazyLock,
};

use ipnet::IpNet;
use reqwest::Url;

use crate::error::EgressError;

/// Which addresses may be reached: the public ones, and those opened on purpose.
#[derive(Debug, Clone, Default)]
pub struct Policy {
    /// Networks opened although they are not public, such as a home's 192.168.0.0/16.
    pub allow: Vec<IpNet>,
}

/// Special-purpose IPv4 networks (IANA special-purpose address registry, RFC 6890 and successors), multicast (RFC
/// 5771) and the former class E.
const NOT_PUBLIC_V4: [&str; 17] = [
    "0.0.0.0/8",
    "10.0.0.0/8",
    "100.64.0.0/10",
    "127.0.0.0/8",
    // A public number that is a cloud's internal host service.
    "168.63.129.16/32",
    "169.254.0.0/16",
    "172.16.0.0/12",
    "192.0.0.0/24",
    "192.0.2.0/24",
    "192.31.196.0/24",
    "192.52.193.0/24",
    "192.88.99.0/24",
    "192.168.0.0/16",
    "198.18.0.0/15",
    "198.51.100.0/24",
    "203.0.113.0/24",
    "224.0.0.0/3",
];

/// Special-purpose networks within global unicast 2000::/3: protocol assignments with Teredo and ORCHID,
/// documentation, 6to4, SRv6 and documentation again. Everything outside 2000::/3 is not public: loopback,
/// link-local, unique local, multicast, NAT64, IPv4-compatible.
const NOT_PUBLIC_V6: [&str; 5] = ["2001::/23", "2001:db8::/32", "2002::/16", "2620:4f:8000::/48", "3fff::/20"];

impl Policy {
    /// Whether this address may be connected to.
    pub fn permits(&self, address: IpAddr) -> bool {
        let address = unmapped(address);
        self.allow.iter().any(|net| net.contains(&address)) || is_public(address)
    }
}

/// An IPv4-mapped IPv6 address (`::ffff:a.b.c.d`, RFC 4291) is that IPv4 address.
fn unmapped(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V6(v6) => v6.to_ipv4_mapped().map_or(address, IpAddr::V4),
        v4 => v4,
    }
}

fn is_public(address: IpAddr) -> bool {
    static V4: LazyLock<Vec<IpNet>> = LazyLock::new(|| parsed(&NOT_PUBLIC_V4));
    static V6: LazyLock<Vec<IpNet>> = LazyLock::new(|| parsed(&NOT_PUBLIC_V6));
    match address {
        IpAddr::V4(_) => !V4.iter().any(|net| net.contains(&address)),
        IpAddr::V6(v6) => {
            let global_unicast = v6.segments()[0] & 0xE000 == 0x2000;
            global_unicast && !is_isatap(v6) && !V6.iter().any(|net| net.contains(&address))
        }
    }
}

/// An interface identifier of 0000:5efe or 0200:5efe carries an IPv4 address to tunnel to (RFC 5214).
fn is_isatap(v6: Ipv6Addr) -> bool {
    matches!((v6.segments()[4], v6.segments()[5]), (0x0000 | 0x0200, 0x5EFE))
}

fn parsed(networks: &[&str]) -> Vec<IpNet> {
    networks.iter().map(|net| net.parse().expect("the tables are constants")).collect()
}

/// Checks a URL as far as possible without resolving its name: form, scheme, user info, literal host, private names.
/// Decimal, octal, hexadecimal and shortened IPv4 forms are read as browsers read them (WHATWG URL standard).
///
/// # Errors
/// [`EgressError::Url`], [`EgressError::UserInfo`] or [`EgressError::NotPublic`].
pub fn check_url(url: &str, policy: &Policy) -> Result<(), EgressError> {
    checked(url, policy).map(|_| ())
}

pub(crate) fn checked(url: &str, policy: &Policy) -> Result<Url, EgressError> {
    let url = Url::parse(url).map_err(|_| EgressError::Url)?;
    if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none_or(str::is_empty) {
        return Err(EgressError::Url);
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(EgressError::UserInfo);
    }
    let refused = match literal(&url) {
        Some(address) => !policy.permits(address),
        // If a private network is allowed, its names are judged by the addresses they resolve to.
        None => policy.allow.is_empty() && url.host_str().is_some_and(is_private_name),
    };
    if refused { Err(EgressError::NotPublic) } else { Ok(url) }
}

/// Endings of names that are never delegated in the public DNS: RFC 6761, 6762 and 8375, ICANN's `internal`, and what
/// private networks are customarily called.
const PRIVATE_ENDINGS: [&str; 9] =
    ["localhost", "local", "internal", "home.arpa", "localdomain", "lan", "home", "corp", "intranet"];

/// Whether a name can only lead to this machine or its own network. Names without a dot are found there only.
fn is_private_name(host: &str) -> bool {
    let name = host.strip_suffix('.').unwrap_or(host);
    let ends = |ending: &&str| name.strip_suffix(*ending).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'));
    !name.contains('.') || PRIVATE_ENDINGS.iter().any(ends)
}

/// The host as an address, if it is one.
pub(crate) fn literal(url: &Url) -> Option<IpAddr> {
    let host = url.host_str()?;
    match host.strip_prefix('[').and_then(|h| h.strip_suffix(']')) {
        Some(v6) => v6.parse::<Ipv6Addr>().ok().map(IpAddr::V6),
        None => host.parse::<Ipv4Addr>().ok().map(IpAddr::V4),
    }
}
