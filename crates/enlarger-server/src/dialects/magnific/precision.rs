//! The precision endpoints: detail is sharpened, not invented.

use enlarger_egress::Policy;
use enlarger_pipeline::{Flavor, Look, Precision, Request, Size};
use enlarger_service::{
    job::{Kind, OutputFile},
    submit::Ask,
};
use utoipa::{ToSchema, openapi::schema::Object};

use super::creative::one_of;
use crate::{http::Fields, submit::webhook_url};

/// Reads the body of V1. The vendor's has no factor; clients send one all the same.
pub(crate) fn read_v1(fields: &mut Fields<'_>, policy: &Policy) -> Ask {
    let factor = scale_factor(fields);
    let precision = knobs(fields, [50, 7, 30], None);
    ask(fields, policy, Kind::PrecisionV1, factor, precision)
}

/// Reads the body of V2.
pub(crate) fn read_v2(fields: &mut Fields<'_>, policy: &Policy) -> Ask {
    let factor = scale_factor(fields);
    let flavor = fields.choice("flavor", Flavor::ALL, Flavor::name);
    let precision = knobs(fields, [7, 7, 30], flavor);
    ask(fields, policy, Kind::PrecisionV2, factor, precision)
}

fn scale_factor(fields: &mut Fields<'_>) -> u32 {
    fields.scale_factor(|n| (2..=16).contains(&n), "must be an integer between 2 and 16")
}

fn knobs(fields: &mut Fields<'_>, [sharpen, smart_grain, ultra_detail]: [i64; 3], flavor: Option<Flavor>) -> Precision {
    let mut knob = |name, default| u8::try_from(fields.integer(name, 0..=100, default)).unwrap_or_default();
    Precision {
        sharpen: knob("sharpen", sharpen),
        smart_grain: knob("smart_grain", smart_grain),
        ultra_detail: knob("ultra_detail", ultra_detail),
        flavor,
    }
}

fn ask(fields: &mut Fields<'_>, policy: &Policy, kind: Kind, factor: u32, precision: Precision) -> Ask {
    Ask {
        kind,
        request: Request { size: Size::Factor(factor.into()), look: Look::Precision(precision), ..Request::default() },
        output: OutputFile::default(),
        name: None,
        webhook_url: webhook_url(fields, policy),
        filter_nsfw: fields.flag("filter_nsfw"),
    }
}

/// The body of V1, for the specification.
#[derive(ToSchema)]
#[allow(dead_code, reason = "only its schema is used; the body is read field by field")]
pub(crate) struct PrecisionV1Request {
    /// Base64 image or URL to upscale. No side of the result may be longer than 10060 pixels.
    image: String,
    /// How many times as wide and high. Also accepted as a string.
    #[schema(default = 2, minimum = 2, maximum = 16, required = false)]
    scale_factor: i64,
    /// Sharpness of edges.
    #[schema(default = 50, minimum = 0, maximum = 100, required = false)]
    sharpen: i64,
    /// Texture against the plastic look.
    #[schema(default = 7, minimum = 0, maximum = 100, required = false)]
    smart_grain: i64,
    /// Micro-detail.
    #[schema(default = 30, minimum = 0, maximum = 100, required = false)]
    ultra_detail: i64,
    /// Optional callback URL that will receive asynchronous notifications whenever the task changes status.
    #[schema(required = false, format = Uri, example = "https://www.example.com/webhook")]
    webhook_url: String,
    /// Accepted for compatibility. There is no classifier here: nothing is filtered.
    #[schema(default = false, required = false)]
    filter_nsfw: bool,
}

/// The body of V2, for the specification.
#[derive(ToSchema)]
#[allow(dead_code, reason = "only its schema is used; the body is read field by field")]
pub(crate) struct PrecisionV2Request {
    /// Base64 image or URL to upscale. No side of the result may be longer than 10060 pixels.
    image: String,
    /// How many times as wide and high. Also accepted as a string.
    #[schema(default = 2, minimum = 2, maximum = 16, required = false)]
    scale_factor: i64,
    /// Sharpness of edges.
    #[schema(default = 7, minimum = 0, maximum = 100, required = false)]
    sharpen: i64,
    /// Texture against the plastic look.
    #[schema(default = 7, minimum = 0, maximum = 100, required = false)]
    smart_grain: i64,
    /// Micro-detail.
    #[schema(default = 30, minimum = 0, maximum = 100, required = false)]
    ultra_detail: i64,
    /// What kind of picture it is.
    #[schema(schema_with = flavor, required = false)]
    flavor: String,
    /// Optional callback URL that will receive asynchronous notifications whenever the task changes status.
    #[schema(required = false, format = Uri, example = "https://www.example.com/webhook")]
    webhook_url: String,
    /// Accepted for compatibility. There is no classifier here: nothing is filtered.
    #[schema(default = false, required = false)]
    filter_nsfw: bool,
}

fn flavor() -> Object {
    let words: Vec<&str> = Flavor::ALL.iter().map(|flavor| flavor.name()).collect();
    one_of("What kind of picture it is.", &words).build()
}
