//! Knobs as fields of a body, and as properties of its schema.

use enlarger_pipeline::{Knob, Knobs};
use utoipa::openapi::{KnownFormat, ObjectBuilder, RefOr, Schema, SchemaFormat, Type};

use super::Fields;

impl Fields<'_> {
    /// Reads the knobs of a family; absent ones keep their values in `usual`.
    pub fn knobs<F: Knobs>(&mut self, mut usual: F) -> F {
        for Knob { name, range, get, set, .. } in F::KNOBS {
            let value = self.integer(name, range.clone(), get(&usual));
            set(&mut usual, value);
        }
        usual
    }

    /// Rejects out-of-range knobs of the family at `place`.
    pub fn check_knobs<F: Knobs>(&mut self, place: &str, family: &F) {
        for Knob { name, range, .. } in F::KNOBS.iter().filter(|knob| !knob.range.contains(&(knob.get)(family))) {
            self.reject(&format!("{place}.{name}"), format!("must be between {} and {}", range.start(), range.end()));
        }
    }
}

/// A body's schema with the knobs of a family, whose defaults are those of `usual`.
pub(crate) fn with_knobs<F: Knobs>(schema: RefOr<Schema>, usual: &F) -> RefOr<Schema> {
    let RefOr::T(Schema::Object(mut object)) = schema else { return schema };
    for Knob { name, range, help, get, .. } in F::KNOBS {
        let knob = ObjectBuilder::new()
            .schema_type(Type::Integer)
            .format(Some(SchemaFormat::KnownFormat(KnownFormat::Int64)))
            .description(Some(*help))
            .minimum(Some(*range.start()))
            .maximum(Some(*range.end()))
            .default(Some(get(usual).into()));
        object.properties.insert((*name).to_owned(), knob.into());
    }
    RefOr::T(Schema::Object(object))
}
