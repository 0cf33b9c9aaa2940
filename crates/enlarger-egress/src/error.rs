//! Why nothing was fetched, in sentences that reveal nothing about the network behind this machine.

use std::borrow::Cow;

use enlarger_error::Explained;

/// Errors of this crate.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EgressError {
    /// The text is not an absolute http or https URL.
    #[error("the URL is not a valid http or https URL")]
    Url,
    /// The address has a user name or a password.
    #[error("the URL contains a user name or password")]
    UserInfo,
    /// The address leads to this machine or its own network, or its name does not resolve. The message does not say
    /// which.
    #[error("the URL does not point to a public host")]
    NotPublic,
    /// Too many redirects.
    #[error("the URL redirects more than {0} times")]
    Redirects(usize),
    /// The host cannot be reached, or closed the connection.
    #[error("the host cannot be reached, or the connection was lost")]
    Connection,
    /// It took too long.
    #[error("the host did not respond within {0} seconds")]
    Timeout(u64),
    /// The host answered with an error.
    #[error("the host answered with status {0}")]
    Status(u16),
    /// The body is larger than allowed.
    #[error("the file is larger than {} MB", .0 >> 20)]
    TooLarge(u64),
    /// The host compressed the file in an unsupported way, or the compressed data is damaged.
    #[error("the host sent the file with an unsupported Content-Encoding")]
    Encoding,
    /// The bytes could not be stored here.
    #[error("the bytes could not be stored: {0}")]
    Store(String),
    /// A key has characters that no header of HTTP may have.
    #[error("the key has characters that cannot be sent")]
    Key,
    /// A webhook secret does not have the form that its prefix declares.
    #[error("the webhook secret starts with whsec_ but the rest is not base64")]
    Secret,
}

impl EgressError {
    /// Whether the same URL may work later.
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
            Self::Key => "key",
            Self::Secret => "webhook_secret",
        }
    }

    fn hint(&self) -> Option<Cow<'_, str>> {
        let hint = match self {
            Self::Url => "use an absolute URL that starts with https:// or http://",
            Self::UserInfo => "leave the user name and password out; a signed URL works",
            Self::NotPublic => {
                "only public hosts are allowed; the operator of this server can allow others with --allow-net"
            }
            Self::Redirects(_) | Self::Status(_) => "use the URL of the file itself",
            Self::Connection | Self::Timeout(_) => {
                "check that the URL is reachable from the internet, or send the image itself"
            }
            Self::Encoding => "serve the file without Content-Encoding, or send the image itself",
            Self::TooLarge(_) => "send a smaller file",
            Self::Store(_) => return None,
            Self::Key => "use the key as it was issued, on one line",
            Self::Secret => "use the secret as it was issued, or any text without that prefix",
        };
        Some(hint.into())
    }
}
