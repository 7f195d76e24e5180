-- What pg_dump takes along.  Never the cache, which would put nonces into a
-- dump, not the sequence, which starts at the new installation's clock, and not how
-- far the audit file is, which is another one there, nor what the worker has told of,
-- which it writes as soon as there is an installation.
-- Shipped policies come with the extension; edited ones are dumped.

SELECT pg_catalog.pg_extension_config_dump('token_rotation.policy', 'WHERE NOT shipped');
SELECT pg_catalog.pg_extension_config_dump('token_rotation.risk_rule', '');
SELECT pg_catalog.pg_extension_config_dump('token_rotation.token', '');
SELECT pg_catalog.pg_extension_config_dump('token_rotation.pending', '');
SELECT pg_catalog.pg_extension_config_dump('token_rotation.cutoff', '');
SELECT pg_catalog.pg_extension_config_dump('token_rotation.blocked_client', '');
SELECT pg_catalog.pg_extension_config_dump('token_rotation.delivery_key', '');
SELECT pg_catalog.pg_extension_config_dump('token_rotation.delivery', '');
SELECT pg_catalog.pg_extension_config_dump('token_rotation.audit', '');
SELECT pg_catalog.pg_extension_config_dump('token_rotation.audit_seal', '');
SELECT pg_catalog.pg_extension_config_dump('token_rotation.consumer', '');
