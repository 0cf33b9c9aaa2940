//! Bodies that count as downloads while they are being sent.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use axum::body::{Body, HttpBody};
use bytes::Bytes;
use enlarger_service::reads::Reading;

/// The same body, counting as a download until it has been sent or dropped.
pub(super) fn counted(body: Body, reading: Reading) -> Body {
    Body::new(Download { body, _reading: reading })
}

struct Download {
    body: Body,
    _reading: Reading,
}

impl HttpBody for Download {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<hyper::body::Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn size_hint(&self) -> hyper::body::SizeHint {
        self.body.size_hint()
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }
}
