//! Pages of lists.

use enlarger_tasks::ListQuery;
use serde::Deserialize;
use utoipa::IntoParams;

use super::error::{ApiError, ApiResult};

/// A page of a list.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct Paging {
    /// Page number, starting at 1.
    #[param(value_type = Option<u64>, minimum = 1, maximum = 1000000)]
    page: Option<String>,
    /// Page size, 1 to 100.
    #[param(value_type = Option<u64>, minimum = 1, maximum = 100)]
    per_page: Option<String>,
}

impl Paging {
    /// # Errors
    /// If a number is invalid or out of range.
    pub fn query(&self, kinds: Vec<String>) -> ApiResult<ListQuery> {
        let number = |name: &str, text: &Option<String>, largest: u64, default: u64| match text {
            None => Ok(default),
            Some(text) => text
                .parse()
                .ok()
                .filter(|number| (1..=largest).contains(number))
                .ok_or_else(|| ApiError::field(name, format!("must be between 1 and {largest}"))),
        };
        Ok(ListQuery {
            kinds,
            states: Vec::new(),
            page: number("page", &self.page, 1_000_000, 1)?,
            per_page: number("per_page", &self.per_page, 100, 20)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_count_from_one_and_have_a_largest_size() {
        let query = |page: Option<&str>, per_page: Option<&str>| {
            let paging = Paging { page: page.map(str::to_owned), per_page: per_page.map(str::to_owned) };
            paging.query(Vec::new()).map(|query| (query.page, query.per_page)).map_err(|error| error.message)
        };
        assert_eq!(query(None, None), Ok((1, 20)));
        assert_eq!(query(Some("3"), Some("100")), Ok((3, 100)));
        for wrong in ["0", "101", "-1", "1.5", "", "x"] {
            assert_eq!(query(None, Some(wrong)).unwrap_err(), "per_page must be between 1 and 100", "{wrong}");
        }
        assert!(query(Some("1000001"), None).is_err());
    }
}
