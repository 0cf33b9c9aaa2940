//! Why nothing was fetched, in sentences that tell nothing of the network behind this machine.

use std::borrow::Cow;

use enlarger_error::Explained;

/// Errors of this crate.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EgressError {
    /// The text is no absolute http or https address.
    #[error("the address is not a valid http or https URL")]
    Url,
    /// The address has a user name or a password.
    #[error("the address carries a user name or a password")]
    UserInfo,
    /// The address leads to this machine or its own network, or its name does not resolve. Which of them is not told.
    #[error("the address does not lead to a public host")]
    NotPublic,
    /// Too many redirects.
    #[error("the address redirects more than {0} times")]
    Redirects(usize),
    /// The host cannot be reached, or hung up.
    #[error("the host could not be reached, or the connection broke")]
    Connection,
    /// It took too long.
    #[error("the host did not deliver within {0} seconds")]
    Timeout(u64),
    /// The host answered with an error.
    #[error("the host answered with status {0}")]
    Status(u16),
    /// The body is larger than allowed.
    #[error("the file is larger than {} MB", .0 >> 20)]
    TooLarge(u64),
    /// The host compressed the file in a way that is not read, or the compressed data is damaged.
    #[error("the host sent the file compressed in a way that cannot be read")]
    Encoding,
    /// The bytes could not be kept here.
    #[error("the bytes could not be stored: {0}")]
    Store(String),
    /// A webhook secret is not of the form it claims.
    #[error("the webhook secret begins with whsec_ and is not base64 after it")]
    Secret,
}

impl EgressError {
    /// Whether the same address may work later.
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Connection | Self::Timeout(_) | Self::Status(429 | 500..=599) | Self::Store(_))
    }
}

impl Explained for EgressError {
    fn code(&self) -> &'static str {
        match self {
            Self::Url => "url_invalid",
            Self::UserInfo => "url_user_info",
            Self::NotPublic => "url_not_public",
            Self::Redirects(_) => "url_redirects",
            Self::Connection => "url_unreachable",
            Self::Timeout(_) => "url_timeout",
            Self::Status(_) => "url_status",
            Self::TooLarge(_) => "url_too_large",
            Self::Encoding => "url_encoding",
            Self::Store(_) => "url_not_stored",
            Self::Secret => "webhook_secret",
        }
    }

    fn hint(&self) -> Option<Cow<'_, str>> {
        let hint = match self {
            Self::Url => "give an absolute address that begins with https:// or http://",
            Self::UserInfo => "leave user name and password out of the address; a signed address works",
            Self::NotPublic => {
                "only public hosts are reached; whoever runs this server can open others with --allow-net"
            }
            Self::Redirects(_) | Self::Status(_) => "give the address of the file itself",
            Self::Connection | Self::Timeout(_) => {
                "check that the address opens from elsewhere, or send the picture itself"
            }
            Self::Encoding => "store the file without Content-Encoding, or send the picture itself",
            Self::TooLarge(_) => "send a smaller file",
            Self::Store(_) => return None,
            Self::Secret => "give the secret as it was issued, or any text without the prefix",
        };
        Some(hint.into())
    }
}
