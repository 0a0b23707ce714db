# SPDX-License-Identifier: Apache-2.0
"""Real servers for tests: started on free loopback ports, in directories of their own, and always stopped.

pifpaf is not used: its PostgreSQL cannot be run by root and asks for no password, its RabbitMQ shares the
machine's epmd and has neither TLS nor the management plugin, and neither can be killed and started on the
same data, which is what many tests here are about.
"""
