//! Parts of paths. A handler takes each as a `Result`, so that a part that is not legal is told what would be.

use protos::names;
use rocket::request::FromParam;
use utoipa::IntoParams;
use utoipa::openapi::Required;
use utoipa::openapi::path::{Parameter, ParameterBuilder, ParameterIn};
use utoipa::openapi::schema::{KnownFormat, ObjectBuilder, SchemaFormat, Type};
use uuid::Uuid;

use super::paging::{MAX_NUMBER, in_range};
use crate::error::Error;

/// What a label or a topic may be, for programs.
const NAME: &str = "^[a-zA-Z0-9._:-]{1,255}$";

/// The label of a queue, in lower case.
pub(super) struct Label(pub(super) String);

impl FromParam<'_> for Label {
    type Error = Error;

    fn from_param(given: &str) -> Result<Self, Error> {
        Ok(Self(names::label(given)?))
    }
}

/// The topic or the pattern of a channel, in lower case; `None` for none.
pub(super) struct Topic(pub(super) Option<String>);

impl FromParam<'_> for Topic {
    type Error = Error;

    fn from_param(given: &str) -> Result<Self, Error> {
        Ok(Self(names::channel_topic(given)?))
    }
}

/// The id of a channel.
pub(super) struct ChannelId(pub(super) Uuid);

impl FromParam<'_> for ChannelId {
    type Error = Error;

    fn from_param(given: &str) -> Result<Self, Error> {
        let id = Uuid::try_parse(given);
        // Long nonsense is not sent back in full.
        let shown = || given.chars().take(64).collect();
        Ok(Self(id.map_err(|_| Error::InvalidChannelId(shown()))?))
    }
}

/// The id of a MoM.
pub(super) struct MomId(pub(super) Uuid);

impl FromParam<'_> for MomId {
    type Error = Error;

    fn from_param(given: &str) -> Result<Self, Error> {
        let id = Uuid::try_parse(given).map_err(|_| Error::InvalidArgument {
            field: "the id of the MoM",
            legal: "a UUID, as GET /moms shows it",
        });
        Ok(Self(id?))
    }
}

/// The sequence of a message.
pub(super) struct Seq(pub(super) i64);

impl FromParam<'_> for Seq {
    type Error = Error;

    fn from_param(given: &str) -> Result<Self, Error> {
        let legal = "a number from 1 to 9007199254740991";
        let seq = in_range(given.parse(), 1..=MAX_NUMBER, "the sequence", legal);
        Ok(Self(seq?))
    }
}

/// How the description of the surface tells of a part of a path.
macro_rules! described {
    ($($type:ident: $name:literal, $description:literal, $schema:expr;)*) => {
        $(impl IntoParams for $type {
            fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
                vec![parameter($name, $description, $schema)]
            }
        })*
    };
}

described! {
    Label: "label", "The label of a queue; upper case counts as lower case.", name();
    Topic: "topic", "A topic; `__none__` stands for none.", name();
    ChannelId: "id", "The id of a channel.", uuid();
    MomId: "id", "The id of a MoM.", uuid();
    Seq: "seq", "The sequence of a message.", seq();
}

fn parameter(name: &str, description: &str, schema: ObjectBuilder) -> Parameter {
    ParameterBuilder::new()
        .name(name)
        .parameter_in(ParameterIn::Path)
        .required(Required::True)
        .description(Some(description))
        .schema(Some(schema))
        .build()
}

fn name() -> ObjectBuilder {
    ObjectBuilder::new()
        .schema_type(Type::String)
        .pattern(Some(NAME))
}

fn uuid() -> ObjectBuilder {
    ObjectBuilder::new()
        .schema_type(Type::String)
        .format(Some(SchemaFormat::KnownFormat(KnownFormat::Uuid)))
}

fn seq() -> ObjectBuilder {
    ObjectBuilder::new()
        .schema_type(Type::Integer)
        .minimum(Some(1))
        .maximum(Some(MAX_NUMBER))
}
