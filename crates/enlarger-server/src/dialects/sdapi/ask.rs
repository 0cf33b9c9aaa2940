//! The body: an image, its new size, and an upscaler or two. A1111's settings for faces are ignored: there is nothing here that does it.

use enlarger_egress::Policy;
use enlarger_pipeline::{Crop, Part, Request, Size};
use enlarger_service::{
    job::{Kind, OutputFile, SourceInfo},
    submit::Ask,
};
use utoipa::{
    ToSchema,
    openapi::{ObjectBuilder, Type, schema::Object},
};

use crate::{http::Fields, submit::FieldNames};

/// What bodies call the parts of a request.
pub(super) const NAMES: FieldNames = FieldNames {
    size: |size| match size {
        Size::Factor(_) => "upscaling_resize",
        Size::Width(_) => "upscaling_resize_w",
        Size::Height(_) => "upscaling_resize_h",
    },
    part: |part| (part == Part::Model).then_some("upscaler_1"),
};

/// The upscaler that the server chooses.
pub(super) const AUTOMATIC: &str = "Automatic";
/// Other names for it. A1111's `None` leaves the choice to nobody; its clients send it by default.
const ALSO_AUTOMATIC: [&str; 2] = ["None", "automatic"];
/// What A1111 calls networks that are bundled here, as its clients have them written down.
const A1111_NAMES: [(&str, &str); 2] = [("R-ESRGAN 4x+", "x4plus"), ("R-ESRGAN 4x+ Anime6B", "x4plus-anime-6b")];
const DEFAULT_FACTOR: f64 = 2.0;
const DEFAULT_SIDE: i64 = 512;
const LONGEST_SIDE: i64 = 300_000;

/// Reads the body. The size is a factor until [`fit`].
pub(super) fn read(fields: &mut Fields<'_>, _: &Policy) -> Ask {
    let factor = fields.number("upscaling_resize", 1.0..=16.0, DEFAULT_FACTOR);
    let request = Request { size: Size::Factor(factor), model: model(fields), ..Request::default() };
    let output = OutputFile::default();
    Ask { kind: Kind::Console, request, output, name: None, webhook_url: None, filter_nsfw: false }
}

fn model(fields: &mut Fields<'_>) -> Option<String> {
    let (first, second) = (upscaler(fields, "upscaler_1"), upscaler(fields, "upscaler_2"));
    let share = fields.number("extras_upscaler_2_visibility", 0.0..=1.0, 0.0);
    match (first, second) {
        (Some(first), Some(second)) if share > 0.0 => Some(format!("{first}+{second}@{share}")),
        (None, Some(_)) if share > 0.0 => {
            fields.reject("upscaler_2", "can only be blended with an upscaler_1 that is named");
            None
        }
        (first, _) => first,
    }
}

/// The model of an upscaler; `None` is automatic.
fn upscaler(fields: &mut Fields<'_>, field: &str) -> Option<String> {
    let name = fields.text(field, 255)?;
    if name == AUTOMATIC || ALSO_AUTOMATIC.contains(&name.as_str()) {
        return None;
    }
    let ours = A1111_NAMES.iter().find(|(theirs, _)| *theirs == name);
    Some(ours.map_or(name, |(_, ours)| (*ours).to_owned()))
}

/// With `resize_mode` 1, the size in pixels: the image covers it, and what is beside it is cut off unless `upscaling_crop` is false.
pub(super) fn fit(fields: &mut Fields<'_>, ask: &mut Ask, source: Option<&SourceInfo>) {
    if fields.integer("resize_mode", 0..=1, 0) == 0 {
        return;
    }
    let mut side = |name: &str| fields.integer(name, 1..=LONGEST_SIDE, DEFAULT_SIDE) as u32;
    let to = (side("upscaling_resize_w"), side("upscaling_resize_h"));
    let crop = fields.raw("upscaling_crop").is_none() || fields.flag("upscaling_crop");
    let Some(source) = source else {
        let hint = Some("send the image itself, or upscaling_resize");
        return fields.reject_with(
            "resize_mode",
            "cannot be 1 for an image at a URL, whose size is not known yet",
            hint,
        );
    };
    let from = (source.width, source.height);
    let wide = f64::from(from.0) * f64::from(to.1) > f64::from(from.1) * f64::from(to.0);
    (ask.request.size, ask.request.crop) = match crop {
        true => (Size::Width(to.0), Some(middle(from, to))),
        false if wide => (Size::Height(to.1), None),
        false => (Size::Width(to.0), None),
    };
}

/// The largest area in the middle of `from` that becomes exactly `to` when it is enlarged to that width; where none does, the one that
/// comes nearest to its shape.
fn middle(from: (u32, u32), to: (u32, u32)) -> Crop {
    let shape = f64::from(to.1) / f64::from(to.0);
    let widest = f64::from(from.0).min(f64::from(from.1) / shape).floor().max(1.0) as u32;
    let height = |width: u32| ((f64::from(width) * shape).round() as u32).clamp(1, from.1);
    let exact =
        |width: &u32| (f64::from(to.0) / f64::from(*width) * f64::from(height(*width))).round() == f64::from(to.1);
    let width = (1..=widest).rev().find(exact).unwrap_or(widest);
    let height = height(width);
    Crop { x: (from.0 - width) / 2, y: (from.1 - height) / 2, width, height }
}

/// An image to enlarge. Other fields of A1111's API are ignored.
#[derive(ToSchema)]
#[schema(as = SdapiExtraSingleImageRequest)]
#[allow(dead_code, reason = "only its schema is used; the body is read field by field")]
pub(super) struct ExtraImage {
    /// Base64, a `data:` URI or a URL.
    image: String,
    /// 0: by `upscaling_resize`; 1: to `upscaling_resize_w` x `upscaling_resize_h`.
    #[schema(default = 0, minimum = 0, maximum = 1, required = false)]
    resize_mode: i64,
    /// Scale factor.
    #[schema(default = 2.0, minimum = 1, maximum = 16, required = false)]
    upscaling_resize: f64,
    /// Width in pixels.
    #[schema(default = 512, minimum = 1, maximum = 300000, required = false)]
    upscaling_resize_w: i64,
    /// Height in pixels.
    #[schema(default = 512, minimum = 1, maximum = 300000, required = false)]
    upscaling_resize_h: i64,
    /// Whether what does not fit into that width and height is cut off. If not, the result is larger in one direction.
    #[schema(default = true, required = false)]
    upscaling_crop: bool,
    #[schema(schema_with = first, required = false)]
    upscaler_1: String,
    /// A second model, to be blended in.
    #[schema(default = "None", max_length = 255, required = false)]
    upscaler_2: String,
    /// The share of the second model.
    #[schema(default = 0.0, minimum = 0, maximum = 1, required = false)]
    extras_upscaler_2_visibility: f64,
}

fn first() -> Object {
    let about = "A name of `/sdapi/v1/upscalers`, or what A1111 calls the same networks (`R-ESRGAN 4x+`, `R-ESRGAN 4x+ Anime6B`). \
        `Automatic` and `None`: chosen to suit the image.";
    ObjectBuilder::new()
        .schema_type(Type::String)
        .description(Some(about))
        .default(Some(AUTOMATIC.into()))
        .max_length(Some(255))
        .build()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_middle_of_an_image_becomes_exactly_the_size_asked_for() {
        for (from, to) in [
            ((64, 48), (100, 100)),
            ((64, 48), (128, 72)),
            ((1000, 667), (3000, 3000)),
            ((333, 777), (1111, 999)),
            ((64, 48), (150, 160)),
            ((640, 427), (1920, 1080)),
        ] {
            let crop = middle(from, to);
            assert!(crop.x + crop.width <= from.0 && crop.y + crop.height <= from.1, "{crop:?}");
            let height = f64::from(to.0) / f64::from(crop.width) * f64::from(crop.height);
            assert_eq!(height.round(), f64::from(to.1), "{from:?} to {to:?}: {crop:?}");
            let (whole, kept) = (f64::from(from.0.min(from.1)), f64::from(crop.width.max(crop.height)));
            assert!(kept > 0.75 * whole, "not more is cut off than the shape demands: {crop:?}");
        }
    }
}
