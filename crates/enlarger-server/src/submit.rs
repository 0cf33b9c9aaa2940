//! Turns a request into a task: spools the body, has its API read it, checks it, and hands it to the service.

use std::sync::Arc;

use axum::{body::Body, http::HeaderMap};
use enlarger_egress::Policy;
use enlarger_pipeline::{Part, PipelineError, Size};
use enlarger_service::{
    intake::{Intake, Received, Unusable},
    job::SourceInfo,
    submit::{Accepted, Ask, Desk, Infeasible, Submission},
};
use enlarger_tasks::Idempotency;
use sha2::{Digest, Sha256};

use crate::{
    client::Client,
    http::{ApiError, ApiResult, Bodies, Fields, Form, Turns},
    poller,
};

pub(crate) const IDEMPOTENCY_KEY: &str = "idempotency-key";
const LONGEST_KEY: usize = 255;

/// Reads a body's fields, noting all that is wrong.
pub(crate) type Read = fn(&mut Fields<'_>, &Policy) -> Ask;

/// Completes what was read, as the picture's size demands; `None` for a picture that is still to be fetched.
pub(crate) type Fit = fn(&mut Fields<'_>, &mut Ask, Option<&SourceInfo>);

/// See [`FieldNames`].
pub(crate) type Names = &'static FieldNames;

/// A route that takes submissions.
#[derive(Clone, Copy)]
pub(crate) struct Endpoint {
    /// An idempotency key is good for one of them.
    pub name: &'static str,
    /// How its bodies are read.
    pub read: Read,
    /// What depends on the picture.
    pub fit: Option<Fit>,
    /// Whether its clients may learn of a task's end by polling only.
    pub polled: bool,
    /// What its bodies call the parts of a request.
    pub names: Names,
}

/// What the bodies of an API call the parts of a request.
pub(crate) struct FieldNames {
    /// The size, which errors are about that are not about a part.
    pub size: fn(Size) -> &'static str,
    /// A part; `None` of what the API leaves to the server's settings.
    pub part: fn(Part) -> Option<&'static str>,
}

/// Makes tasks of requests. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Submitter {
    pub bodies: Bodies,
    /// Largest body, in MB.
    pub limit_mb: u64,
    pub turns: Turns,
    pub intake: Intake,
    pub desk: Arc<Desk>,
}

impl Submitter {
    /// Puts a task into the queue, or finds the one that the same request made before.
    ///
    /// # Errors
    /// All invalid fields of the request; nothing is stored then.
    pub async fn submit(&self, client: &Client, body: Body, endpoint: Endpoint) -> ApiResult<Accepted> {
        let body = self.bodies.spool(body, self.limit_mb).await?;
        self.accept(client, Form { fields: body, picture: None }, endpoint).await
    }

    /// Reads a form, to be submitted with [`Self::accept`].
    ///
    /// # Errors
    /// If it is none, or cannot be read.
    pub async fn form(&self, client: &Client, body: Body) -> ApiResult<Form> {
        self.bodies.form(&client.headers, body, self.limit_mb).await
    }

    /// [`Self::submit`] for a body that has been read.
    ///
    /// # Errors
    /// As there.
    pub async fn accept(&self, client: &Client, form: Form, endpoint: Endpoint) -> ApiResult<Accepted> {
        let idempotency = idempotency(&client.headers, endpoint.name, &form.fields.hash)?;
        let polled = endpoint.polled && poller::is_comfyui(&client.headers);
        let (it, base) = (self.clone(), client.base.clone());
        let prepared = async move {
            let turns = it.turns.clone();
            turns.reading(move || it.prepare(form, endpoint, base, polled)).await
        };
        self.desk.submit(client.caller.owner.clone(), idempotency, prepared).await
    }

    /// Validates everything that needs no pixels.
    fn prepare(&self, form: Form, endpoint: Endpoint, base: String, polled: bool) -> ApiResult<Submission> {
        let mut fields = Fields::parse(&form.fields)?;
        let mut ask = (endpoint.read)(&mut fields, &self.intake.policy);
        let picture = match form.picture {
            Some(draft) => usable(&mut fields, self.intake.attached(draft))?,
            None => picture(&mut fields, &self.intake, &base)?,
        };
        if let (Some(fit), Some(picture)) = (endpoint.fit, &picture) {
            fit(&mut fields, &mut ask, picture.info());
        }
        let seconds = self.estimate(&mut fields, &ask, picture.as_ref(), endpoint.names)?;
        fields.done()?;
        let picture = picture.ok_or_else(|| ApiError::internal("a picture that was not read was not rejected"))?;
        Ok(Submission { ask, picture, seconds, base, polled })
    }

    /// Expected seconds; a request that cannot be carried out is noted.
    ///
    /// # Errors
    /// If the server's settings are at fault.
    fn estimate(&self, fields: &mut Fields<'_>, ask: &Ask, picture: Option<&Received>, names: Names) -> ApiResult<f64> {
        match self.desk.estimate(ask, picture.and_then(Received::info)) {
            Ok(seconds) => Ok(seconds),
            Err(Infeasible::TooLarge(large)) => {
                fields.reject_with((names.size)(ask.request.size), large.reason, Some(large.hint));
                Ok(0.0)
            }
            Err(Infeasible::Refused(error)) => refuse(fields, &error, names, ask.request.size).map(|()| 0.0),
        }
    }
}

/// Notes why a request cannot be carried out, by the field that is at fault.
///
/// # Errors
/// If that is not the request's fault but that of the server's settings.
pub(crate) fn refuse(fields: &mut Fields<'_>, error: &PipelineError, names: Names, size: Size) -> ApiResult<()> {
    let field = match error.part() {
        _ if error.is_the_generators() => None,
        Some(part) => (names.part)(part),
        None => Some((names.size)(size)),
    };
    match field {
        Some(field) => {
            fields.reject_error(field, "cannot be processed", error);
            Ok(())
        }
        None => {
            tracing::error!("creative jobs fail: {error}");
            let told = ApiError::unavailable(format!("this server's settings are at fault: {error}"));
            // Trying again does not help until they are changed.
            Err(ApiError { retry_after: None, ..told })
        }
    }
}

/// Reads the field `image`, on a thread that may wait; what is wrong with it is noted, and `None` then.
///
/// # Errors
/// Only if it could not be stored.
pub(crate) fn picture(fields: &mut Fields<'_>, intake: &Intake, base: &str) -> ApiResult<Option<Received>> {
    let Some(value) = fields.raw("image") else {
        fields.reject("image", "is required");
        return Ok(None);
    };
    usable(fields, intake.receive(value, base))
}

/// Notes what is wrong with a picture.
///
/// # Errors
/// Only if it could not be stored.
fn usable(fields: &mut Fields<'_>, received: Result<Received, Unusable>) -> ApiResult<Option<Received>> {
    match received {
        Ok(picture) => Ok(Some(picture)),
        Err(Unusable::Refused { reason, hint, code }) => {
            fields.reject_with("image", reason, hint);
            fields.note_code(code);
            Ok(None)
        }
        Err(Unusable::Files(error)) => Err(error.into()),
    }
}

/// Reads `webhook_url`, as far as it can be judged without the network.
pub(crate) fn webhook_url(fields: &mut Fields<'_>, policy: &Policy) -> Option<String> {
    let url = fields.text("webhook_url", 2048)?;
    match enlarger_egress::check_url(&url, policy) {
        Ok(()) => Some(url),
        Err(error) => {
            fields.reject_error("webhook_url", "cannot be used", &error);
            None
        }
    }
}

fn idempotency(headers: &HeaderMap, endpoint: &str, body: &[u8; 32]) -> ApiResult<Option<Idempotency>> {
    let Some(key) = headers.get(IDEMPOTENCY_KEY) else { return Ok(None) };
    let key = key.to_str().ok().filter(|key| !key.is_empty() && key.len() <= LONGEST_KEY);
    let reason = format!("must have 1 to {LONGEST_KEY} printable characters");
    let key = key.ok_or_else(|| ApiError::field("Idempotency-Key", reason))?.to_owned();
    let body_hash = Sha256::new().chain_update(endpoint).chain_update([0]).chain_update(body).finalize().into();
    Ok(Some(Idempotency { key, body_hash, reservation: None }))
}
