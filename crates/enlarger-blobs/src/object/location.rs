//! What an `s3://` URL says, and the client that it takes.

use std::{io, time::Duration};

use object_store::{
    BackoffConfig, ClientOptions, RetryConfig,
    aws::{AmazonS3, AmazonS3Builder, AmazonS3ConfigKey, S3CopyIfNotExists},
    path::Path,
};
use url::Url;

/// Servers fail over within seconds. Whoever calls decides what to do about longer outages.
const PATIENCE: Duration = Duration::from_secs(5);
/// More than fit into that time: pauses begin at 100 ms.
const MOST_TRIES: usize = 50;
/// Longest pause between two tries.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
/// How long nothing may arrive, also while a part is being sent: 420 kB/s are enough for the largest. A server that hangs keeps
/// submissions waiting for this long.
const SILENCE: Duration = Duration::from_secs(20);
const CONNECT: Duration = Duration::from_secs(5);
/// Of the files that we write. Others have none.
const MEDIA_TYPES: [(&str, &str); 5] = [
    ("avif", "image/avif"),
    ("jpg", "image/jpeg"),
    ("png", "image/png"),
    ("tif", "image/tiff"),
    ("webp", "image/webp"),
];

/// A bucket of a server, and a prefix of all keys in it.
#[derive(Debug)]
pub(super) struct Location {
    pub bucket: String,
    pub prefix: Path,
    /// `http` or `https`, without the bucket. `None`: that of the environment, or Amazon's.
    endpoint: Option<Url>,
    region: Option<String>,
    /// Whether the bucket is part of the path or of the host name. `None`: of the path, except at Amazon.
    path_style: Option<bool>,
}

impl Location {
    /// Reads `s3://BUCKET/PREFIX?endpoint=URL&region=NAME&path_style=BOOL`.
    ///
    /// # Errors
    /// [`io::ErrorKind::InvalidInput`] with a sentence that says what is wrong, and repeats no secret.
    pub fn parse(url: &Url) -> io::Result<Self> {
        if !url.username().is_empty() || url.password().is_some() {
            return Err(invalid(
                "a storage URL must not contain credentials: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
            ));
        }
        let bucket = url.host_str().filter(|name| !name.is_empty());
        let bucket = bucket.ok_or_else(|| invalid("the storage URL names no bucket"))?.to_owned();
        let prefix = Path::from_url_path(url.path().trim_matches('/'));
        let prefix = prefix.map_err(|error| invalid(format!("the storage URL has an unusable prefix: {error}")))?;
        let mut location = Self { bucket, prefix, endpoint: None, region: None, path_style: None };
        for (name, value) in url.query_pairs() {
            match &*name {
                "endpoint" => location.endpoint = Some(endpoint(&value)?),
                "region" => location.region = Some(value.into_owned()),
                "path_style" => {
                    let choice = value.parse().map_err(|_| invalid("`path_style` must be true or false"))?;
                    location.path_style = Some(choice);
                }
                other => {
                    let known = "endpoint, region and path_style";
                    return Err(invalid(format!("the storage URL has an unknown option `{other}`; there are {known}")));
                }
            }
        }
        Ok(location)
    }

    /// A client. Credentials come from the environment, or from the machine's metadata service. Connects to nothing yet.
    ///
    /// # Errors
    /// If settings in the environment contradict each other or this.
    pub fn client(&self) -> io::Result<AmazonS3> {
        // Whoever builds a TLS client without naming a provider gets this one.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let options = ClientOptions::new()
            .with_connect_timeout(CONNECT)
            // A slow client may take minutes to download a file through us.
            .with_timeout_disabled()
            .with_read_timeout(SILENCE);
        let options = MEDIA_TYPES.iter().fold(options, |options, (extension, media_type)| {
            options.with_content_type_for_suffix(*extension, *media_type)
        });
        let retry = RetryConfig {
            backoff: BackoffConfig { max_backoff: LONGEST_PAUSE, ..BackoffConfig::default() },
            max_retries: MOST_TRIES,
            retry_timeout: PATIENCE,
        };
        let mut builder = AmazonS3Builder::from_env()
            .with_client_options(options)
            .with_retry(retry)
            .with_copy_if_not_exists(S3CopyIfNotExists::Header("if-none-match".into(), "*".into()))
            .with_bucket_name(&self.bucket);
        if let Some(region) = &self.region {
            builder = builder.with_region(region);
        }
        let keys = [AmazonS3ConfigKey::S3Endpoint, AmazonS3ConfigKey::Endpoint];
        let ambient = keys.iter().find_map(|key| builder.get_config_value(key));
        let ambient = ambient.map(|text| endpoint(&text)).transpose()?;
        builder = match self.endpoint.as_ref().or(ambient.as_ref()) {
            Some(endpoint) => {
                let path_style = self.path_style.unwrap_or(true);
                let endpoint = if path_style { endpoint.clone() } else { self.host_of(endpoint)? };
                builder
                    .with_allow_http(endpoint.scheme() == "http")
                    .with_virtual_hosted_style_request(!path_style)
                    .with_config(AmazonS3ConfigKey::S3Endpoint, endpoint.as_str().trim_end_matches('/'))
            }
            // Amazon's certificate does not cover names with more dots.
            None => {
                let path_style = self.path_style.unwrap_or(self.bucket.contains('.'));
                builder.with_virtual_hosted_style_request(!path_style)
            }
        };
        builder.build().map_err(|error| invalid(format!("the storage cannot be set up: {error}")))
    }

    /// The endpoint whose host name begins with the bucket.
    fn host_of(&self, endpoint: &Url) -> io::Result<Url> {
        let mut url = endpoint.clone();
        let host = format!("{}.{}", self.bucket, endpoint.host_str().unwrap_or_default());
        let set = url.set_host(Some(&host));
        set.map_err(|error| invalid(format!("`{host}` cannot be a host name ({error}); use path_style=true")))?;
        Ok(url)
    }
}

fn endpoint(text: &str) -> io::Result<Url> {
    let url = Url::parse(text).ok().filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
    let plain = url.filter(|url| url.username().is_empty() && url.password().is_none() && url.query().is_none());
    plain.ok_or_else(|| {
        invalid("the storage's endpoint must be a plain http or https URL, such as https://s3.example.com")
    })
}

pub(super) fn invalid(why: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, why.into())
}
