//! Results as JSON.

use serde::Serialize;
use serde_json::Value;

/// A value as JSON, `null` if it has no such form. Its `f32` have the fewest digits that tell them apart: as `f64`, which a [`Value`]
/// holds, 0.04 would be 0.03999999910593033.
pub fn to_json(value: &impl Serialize) -> Value {
    serde_json::to_string(value).and_then(|text| serde_json::from_str(&text)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::to_json;

    #[test]
    fn numbers_have_no_more_digits_than_they_need() {
        assert_eq!(to_json(&(0.04_f32, 1e-7_f32, 0.1_f64)), json!([0.04, 1e-7, 0.1]));
        assert_eq!(to_json(&f32::NAN), json!(null));
    }
}
