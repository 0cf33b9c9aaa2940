//! The precision endpoints: detail is sharpened, not added.

use enlarger_egress::Policy;
use enlarger_pipeline::{Flavor, Precision, Request, Size, Style};
use enlarger_service::{
    job::{Kind, OutputFile},
    submit::Ask,
};
use utoipa::{
    PartialSchema, ToSchema,
    openapi::{RefOr, Schema, schema::Object},
};

use super::creative::one_of;
use crate::{
    http::{Fields, with_knobs},
    submit::webhook_url,
};

/// V1's defaults, which are the vendor's.
fn v1() -> Precision {
    Precision { sharpen: 50, ..Precision::default() }
}

/// Reads the body of V1. The vendor's has no factor; clients send one anyway.
pub(crate) fn read_v1(fields: &mut Fields<'_>, policy: &Policy) -> Ask {
    let factor = scale_factor(fields);
    let precision = fields.knobs(v1());
    ask(fields, policy, Kind::PrecisionV1, factor, precision)
}

/// Reads the body of V2.
pub(crate) fn read_v2(fields: &mut Fields<'_>, policy: &Policy) -> Ask {
    let factor = scale_factor(fields);
    let precision = settings(fields);
    ask(fields, policy, Kind::PrecisionV2, factor, precision)
}

/// Reads the settings of the style.
pub(crate) fn settings(fields: &mut Fields<'_>) -> Precision {
    let flavor = fields.choice("flavor", Flavor::ALL, Flavor::name);
    Precision { flavor, ..fields.knobs(Precision::default()) }
}

fn scale_factor(fields: &mut Fields<'_>) -> u32 {
    fields.scale_factor(|n| (2..=16).contains(&n), "must be an integer between 2 and 16")
}

fn ask(fields: &mut Fields<'_>, policy: &Policy, kind: Kind, factor: u32, precision: Precision) -> Ask {
    Ask {
        kind,
        request: Request {
            size: Size::Factor(factor.into()),
            style: Style::Precision(precision),
            ..Request::default()
        },
        output: OutputFile::default(),
        name: None,
        webhook_url: webhook_url(fields, policy),
        filter_nsfw: fields.flag("filter_nsfw"),
    }
}

/// The body of V1, for the specification.
pub(crate) struct PrecisionV1Request;

impl ToSchema for PrecisionV1Request {}

impl PartialSchema for PrecisionV1Request {
    fn schema() -> RefOr<Schema> {
        with_knobs(BesideKnobs::schema(), &v1())
    }
}

/// The body of V2, for the specification.
pub(crate) struct PrecisionV2Request;

impl ToSchema for PrecisionV2Request {}

impl PartialSchema for PrecisionV2Request {
    fn schema() -> RefOr<Schema> {
        let RefOr::T(Schema::Object(mut beside)) = BesideKnobs::schema() else { unreachable!("a struct is an object") };
        beside.properties.insert("flavor".to_owned(), flavor().into());
        with_knobs(beside.into(), &Precision::default())
    }
}

/// An image to enlarge in Precision style, which adds no detail. The server is more lenient than this schema.
// The knobs come to it from their table.
#[derive(ToSchema)]
#[allow(dead_code, reason = "only its schema is used; the body is read field by field")]
struct BesideKnobs {
    /// Base64 image or URL to upscale. No side of the result may be longer than 10060 pixels.
    image: String,
    /// Scale factor. Also accepted as a string.
    #[schema(default = 2, minimum = 2, maximum = 16, required = false)]
    scale_factor: i64,
    /// Optional callback URL that will receive asynchronous notifications whenever the task changes status.
    #[schema(required = false, format = Uri, example = "https://www.example.com/webhook")]
    webhook_url: String,
    /// Whether the task fails if the image looks sexually explicit to a small classifier.
    #[schema(default = false, required = false)]
    filter_nsfw: bool,
}

pub(crate) fn flavor() -> Object {
    let words: Vec<&str> = Flavor::ALL.iter().map(|flavor| flavor.name()).collect();
    one_of("The kind of image.", &words).build()
}
