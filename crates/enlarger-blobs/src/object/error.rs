//! What the errors of an object store mean.

use std::{error::Error as _, io};

use object_store::{
    Error,
    client::{HttpError, HttpErrorKind},
};

/// Where machines in a cloud ask for credentials (AWS, "Instance metadata service").
const METADATA_SERVICE: &str = "169.254.169.254";

/// The same error as the contract of a store has it: a kind that callers understand, and a sentence for people without
/// requests, signatures and keys.
pub(super) fn failed(error: Error) -> io::Error {
    let text = error.to_string();
    let (kind, why) = match &error {
        // Also the answer for each blob of a bucket that does not exist.
        Error::NotFound { .. } if text.contains("NoSuchBucket") => {
            (io::ErrorKind::InvalidInput, "the bucket does not exist".to_owned())
        }
        Error::NotFound { .. } => return io::ErrorKind::NotFound.into(),
        Error::AlreadyExists { .. } => return io::ErrorKind::AlreadyExists.into(),
        _ if text.contains(METADATA_SERVICE) => {
            let why = "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY are not set, and no metadata service answers";
            (io::ErrorKind::NotConnected, format!("there are no credentials for the storage: {why}"))
        }
        Error::PermissionDenied { .. } | Error::Unauthenticated { .. } => {
            (io::ErrorKind::PermissionDenied, format!("the storage denied access{}", said(&text)))
        }
        _ => match (status(&text), transport(&error)) {
            (Some(507), _) => (io::ErrorKind::StorageFull, format!("the storage is full{}", said(&text))),
            (Some(status @ (408 | 429 | 500..)), _) => {
                (io::ErrorKind::ResourceBusy, format!("the storage is busy: it answered {status}{}", said(&text)))
            }
            (Some(status), _) => (io::ErrorKind::Other, format!("the storage answered {status}{}", said(&text))),
            (None, Some(HttpErrorKind::Timeout)) => {
                (io::ErrorKind::TimedOut, "the storage did not answer in time".to_owned())
            }
            (None, Some(HttpErrorKind::Connect | HttpErrorKind::Request | HttpErrorKind::Interrupted)) => {
                (io::ErrorKind::NotConnected, format!("the storage cannot be reached: {}", root(&error)))
            }
            (None, Some(_)) => (io::ErrorKind::NotConnected, format!("the storage broke off: {}", root(&error))),
            (None, None) => (io::ErrorKind::Other, format!("the storage failed: {}", root(&error))),
        },
    };
    io::Error::new(kind, why)
}

/// The status of an answer. Only the text of the error has it.
fn status(text: &str) -> Option<u16> {
    let (_, after) = text.split_once("status code: ")?;
    after.get(..3)?.parse().ok()
}

/// The server's own code and words: the elements `Code` and `Message` of its answer.
fn said(text: &str) -> String {
    let element = |name: &str| {
        let (_, after) = text.split_once(&format!("<{name}>"))?;
        after.split_once("</").map(|(inner, _)| inner)
    };
    match (element("Code"), element("Message")) {
        (Some(code), Some(message)) => format!(" ({code}: {})", message.trim_end_matches('.')),
        (Some(code), None) => format!(" ({code})"),
        _ => String::new(),
    }
}

/// What went wrong on the way to the server.
fn transport(error: &Error) -> Option<HttpErrorKind> {
    causes(error).find_map(|cause| cause.downcast_ref::<HttpError>().map(HttpError::kind))
}

/// The last cause, which is the most exact one.
fn root(error: &Error) -> String {
    causes(error).last().map(ToString::to_string).unwrap_or_default()
}

fn causes(error: &Error) -> impl Iterator<Item = &(dyn std::error::Error + 'static)> {
    let mut next = error.source();
    std::iter::from_fn(move || {
        let cause = next?;
        next = cause.source();
        Some(cause)
    })
}
