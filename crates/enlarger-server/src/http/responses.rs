//! The errors that many routes have in common, for the specification.

/// Declares the groups of errors for one form of their body.
macro_rules! common_errors {
    ($body:ty, $caller:ident, $read:ident, $write:ident) => {
        /// The caller is not let in.
        #[derive(utoipa::IntoResponses)]
        #[allow(dead_code, reason = "only its schema is used")]
        pub(crate) enum $caller {
            #[response(status = 401, description = "Missing or invalid credentials")]
            Unauthorized($body),
            #[response(status = 403, description = "Sent by a page on another site")]
            Forbidden($body),
            #[response(status = 429, description = "Too many requests with this key")]
            TooMany($body),
        }

        /// The same, and what may go wrong with reading the store.
        #[derive(utoipa::IntoResponses)]
        #[allow(dead_code, reason = "only its schema is used")]
        pub(crate) enum $read {
            #[response(status = 401, description = "Missing or invalid credentials")]
            Unauthorized($body),
            #[response(status = 403, description = "Sent by a page on another site")]
            Forbidden($body),
            #[response(status = 429, description = "Too many requests with this key")]
            TooMany($body),
            #[response(status = 500, description = "Internal Server Error")]
            Internal($body),
            #[response(status = 503, description = "The task database is not available")]
            Unavailable($body),
        }

        /// Errors of reading and storing a body. The route itself documents 429.
        #[derive(utoipa::IntoResponses)]
        #[allow(dead_code, reason = "only its schema is used")]
        pub(crate) enum $write {
            #[response(status = 400, description = "Bad Request")]
            BadRequest($body),
            #[response(status = 401, description = "Missing or invalid credentials")]
            Unauthorized($body),
            #[response(status = 403, description = "Sent by a page on another site")]
            Forbidden($body),
            #[response(status = 408, description = "The body arrived too slowly")]
            Slow($body),
            #[response(status = 413, description = "The body is too large")]
            TooLarge($body),
            #[response(status = 415, description = "The body is a form or a file, not JSON")]
            NotJson($body),
            #[response(status = 500, description = "Internal Server Error")]
            Internal($body),
            #[response(status = 503, description = "The server cannot store anything at the moment")]
            Unavailable($body),
        }
    };
}

pub(crate) use common_errors;

use super::error::ErrorBody;

/// Whatever may go wrong, where clients need not tell apart what.
#[derive(utoipa::IntoResponses)]
#[allow(dead_code, reason = "only its schema is used")]
pub(crate) enum AnyError {
    #[response(status = "default", description = "Error")]
    Any(ErrorBody),
}

common_errors!(ErrorBody, CallerErrors, ReadErrors, WriteErrors);
