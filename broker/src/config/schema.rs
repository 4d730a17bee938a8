//! What the code says about each setting: its comment, default and range, in order.

use schemars::generate::SchemaSettings;
use serde_json::Value;

use super::Config;

/// A setting, as the code describes it.
#[derive(Debug)]
pub(super) struct Key {
    pub(super) name: String,
    pub(super) comment: String,
    /// Null: unset.
    pub(super) default: Value,
    pub(super) minimum: Option<f64>,
    pub(super) maximum: Option<f64>,
    /// Of a string, in bytes.
    pub(super) length_max: Option<usize>,
    /// The values allowed, if they are few.
    pub(super) choices: Vec<String>,
}

#[derive(Debug)]
pub(super) struct Section {
    pub(super) name: String,
    pub(super) comment: String,
    pub(super) keys: Vec<Key>,
}

/// Every section with its settings.
pub(super) fn sections() -> Vec<Section> {
    let mut settings = SchemaSettings::default();
    settings.inline_subschemas = true;
    let schema = settings.into_generator().into_root_schema_for::<Config>().to_value();
    let defaults = values(&Config::default());
    let sections = properties(&schema);
    sections.map(|(name, schema)| section(name, schema, &defaults[name])).collect()
}

/// The settings as they are, by section and key.
pub(super) fn values(config: &Config) -> Value {
    serde_json::to_value(config).expect("a struct of numbers and strings has a JSON form")
}

fn section(name: &str, schema: &Value, defaults: &Value) -> Section {
    let keys = properties(schema).map(|(name, schema)| key(name, schema, &defaults[name]));
    Section { name: name.to_owned(), comment: comment(schema), keys: keys.collect() }
}

fn key(name: &str, schema: &Value, default: &Value) -> Key {
    Key {
        name: name.to_owned(),
        comment: comment(schema),
        default: default.clone(),
        minimum: schema["minimum"].as_f64(),
        maximum: schema["maximum"].as_f64(),
        length_max: schema["maxLength"].as_u64().and_then(|length| usize::try_from(length).ok()),
        choices: choices(schema),
    }
}

fn properties(schema: &Value) -> impl Iterator<Item = (&str, &Value)> {
    let properties = schema["properties"].as_object().into_iter().flatten();
    properties.map(|(name, schema)| (name.as_str(), schema))
}

fn comment(schema: &Value) -> String {
    schema["description"].as_str().unwrap_or_default().replace('\n', " ")
}

/// Commented enum variants are described one by one, others as a list.
fn choices(schema: &Value) -> Vec<String> {
    let each = schema["oneOf"].as_array().into_iter().flatten().map(|variant| &variant["const"]);
    let list = schema["enum"].as_array().into_iter().flatten();
    each.chain(list).filter_map(Value::as_str).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_setting_has_a_comment_and_a_number_has_its_range() {
        let sections = sections();
        assert_eq!(sections.len(), 15);
        for section in &sections {
            assert!(!section.comment.is_empty(), "{}", section.name);
            for key in &section.keys {
                let name = format!("{}.{}", section.name, key.name);
                assert!(key.comment.ends_with('.'), "{name}: {:?}", key.comment);
                let ranged = key.minimum.is_some() && key.maximum.is_some();
                assert_eq!(ranged, key.default.is_number(), "{name}");
            }
        }
    }
}
