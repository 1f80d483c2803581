"""The reception: what may be asked. Types, inputs and roots; decisions are made in `resolvers`."""
