"""The pure inside: values, rules and ports. Imports nothing but the exception tree."""
