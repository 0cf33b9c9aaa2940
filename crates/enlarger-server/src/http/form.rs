//! Reading forms (RFC 7578): fields as JSON, as every API reads them, and the picture to disk.

use std::{collections::HashSet, fmt};

use axum::{
    body::Body,
    http::{HeaderMap, StatusCode, header},
};
use enlarger_blobs::Draft;
use futures_util::stream::try_unfold;
use multer::{Field, Multipart};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};
use tokio::io::AsyncWriteExt;

use super::{
    Bodies, Spooled,
    error::{ApiError, ApiResult},
    turns::blocking,
};

/// The field of the picture, and what its file's name becomes.
const PICTURE: &str = "image";
const NAME: &str = "name";
/// Bytes of all names and values, besides files.
const LONGEST_TEXT: usize = 1 << 20;

/// A whole form.
pub(crate) struct Form {
    /// A JSON object of strings, with the hash of all that was sent. The boundary is not part of it, which is another one each time.
    pub fields: Spooled,
    /// The file in the field `image`.
    pub picture: Option<Draft>,
}

impl Bodies {
    /// Reads a whole form, which these headers announce. Files in fields other than `image` are skipped.
    ///
    /// # Errors
    /// As [`Bodies::spool`]; 415 for what is not a form, 400 for a broken one, two pictures, or more than a megabyte of text.
    pub async fn form(&self, headers: &HeaderMap, body: Body, limit_mb: u64) -> ApiResult<Form> {
        let boundary = boundary(headers)?;
        let chunks = try_unfold(self.reader(body, limit_mb), |mut reader| async move {
            let chunk = reader.next().await.map_err(Carried)?;
            Ok::<_, Carried>(chunk.map(|chunk| (chunk, reader)))
        });
        let mut form = Multipart::new(chunks, boundary);
        let (mut texts, mut seen) = (Map::new(), HashSet::new());
        let mut hash = Sha256::new();
        let mut picture = None;
        let mut left = LONGEST_TEXT;
        while let Some(mut field) = form.next_field().await.map_err(unreadable)? {
            let name = field.name().unwrap_or_default().to_owned();
            hash.update((name.len() as u64).to_le_bytes());
            hash.update(&name);
            let mut content = Sha256::new();
            match field.file_name().map(str::to_owned) {
                None if !seen.insert(name.clone()) => return Err(ApiError::field(&name, "was sent twice")),
                None => {
                    let text = self::text(&mut field, &name, &mut left).await?;
                    content.update(&text);
                    texts.insert(name, text.into());
                }
                Some(_) if name == PICTURE && picture.is_some() => {
                    let error = ApiError::field(PICTURE, "was sent twice: a request enlarges one image");
                    return Err(error.hint("send a request for each image"));
                }
                Some(file) if name == PICTURE => {
                    picture = Some(self.file(&mut field, &mut content).await?);
                    texts.entry(NAME).or_insert(Value::String(file));
                }
                Some(_) => while field.chunk().await.map_err(unreadable)?.is_some() {},
            }
            hash.update(content.finalize());
        }
        let fields = Spooled { bytes: Value::Object(texts).to_string().into(), hash: hash.finalize().into() };
        Ok(Form { fields, picture })
    }

    async fn file(&self, field: &mut Field<'_>, hash: &mut Sha256) -> ApiResult<Draft> {
        let scratch = self.scratch.clone();
        let draft = blocking(move || Ok(scratch.draft()?)).await?;
        let mut file = draft.reopen()?;
        while let Some(chunk) = field.chunk().await.map_err(unreadable)? {
            hash.update(&chunk);
            file.write_all(&chunk).await?;
        }
        file.flush().await?;
        Ok(draft)
    }
}

/// What separates the fields of the form that these headers announce.
fn boundary(headers: &HeaderMap) -> ApiResult<String> {
    let announced = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    multer::parse_boundary(announced).map_err(|error| {
        let (status, code, message) = match error {
            multer::Error::NoBoundary => (
                StatusCode::BAD_REQUEST,
                "invalid_params",
                "the Content-Type header names no boundary of the form's fields",
            ),
            _ => {
                let message = "the body is not a form, but this route expects multipart/form-data";
                (StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", message)
            }
        };
        ApiError::new(status, code, message).hint("send the image as a file: curl -F image=@photo.jpg -F scale=4")
    })
}

async fn text(field: &mut Field<'_>, name: &str, left: &mut usize) -> ApiResult<String> {
    let mut bytes = Vec::new();
    while let Some(chunk) = field.chunk().await.map_err(unreadable)? {
        *left = left.checked_sub(chunk.len()).ok_or_else(|| {
            let error = ApiError::field(name, "is too long: the text of a form may have at most 1 MB");
            error.hint("send the image as a file: curl -F image=@photo.jpg")
        })?;
        bytes.extend_from_slice(&chunk);
    }
    String::from_utf8(bytes).map_err(|_| ApiError::field(name, "must be text in UTF-8"))
}

fn unreadable(error: multer::Error) -> ApiError {
    match error {
        multer::Error::StreamReadFailed(error) => match error.downcast::<Carried>() {
            Ok(carried) => carried.0,
            Err(error) => ApiError::internal(error),
        },
        error => ApiError::new(StatusCode::BAD_REQUEST, "invalid_form", format!("the form cannot be read: {error}"))
            .hint("let your HTTP library write the form and its Content-Type, as curl -F does"),
    }
}

/// An error of ours, on its way through the parser.
#[derive(Debug)]
struct Carried(ApiError);

impl fmt::Display for Carried {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)
    }
}

impl std::error::Error for Carried {}
