\echo Use "ALTER EXTENSION token_rotation UPDATE" to load this file. \quit
