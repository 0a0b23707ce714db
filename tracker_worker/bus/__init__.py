# SPDX-License-Identifier: Apache-2.0
"""The bus: envelopes, the endpoint that takes commands in, the publisher that sends notifications out."""
