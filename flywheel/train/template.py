"""The chat template of policies from scratch: ChatML turns, Hermes tool calls, assistant turns marked for masks."""

# The tools are not rendered: a policy from scratch learns them from examples, and pays for no schema in every prompt.
# No newline follows the last end of turn, so that a completion is exactly what the assistant writes.
TEMPLATE = r"""{%- for message in messages -%}
{%- set gap = '' if loop.first else '\n' -%}
{%- if message.role == 'assistant' -%}
{{- gap + '<|im_start|>assistant\n' -}}
{%- generation -%}
{%- if message.reasoning_content -%}{{- '<think>\n' + message.reasoning_content + '\n</think>\n\n' -}}{%- endif -%}
{{- message.content or '' -}}
{%- for call in message.tool_calls or [] -%}
{{- '\n' if message.content or not loop.first else '' -}}
{{- '<tool_call>\n{"name": ' + call.function.name | tojson + ', "arguments": ' -}}
{{- call.function.arguments if call.function.arguments is string else call.function.arguments | tojson -}}
{{- '}\n</tool_call>' -}}
{%- endfor -%}
{{- '<|im_end|>' -}}
{%- endgeneration -%}
{%- elif message.role == 'tool' -%}
{%- if loop.first or messages[loop.index0 - 1].role != 'tool' -%}{{- gap + '<|im_start|>user' -}}{%- endif -%}
{{- '\n<tool_response>\n' + (message.content or '') + '\n</tool_response>' -}}
{%- if loop.last or messages[loop.index0 + 1].role != 'tool' -%}{{- '<|im_end|>' -}}{%- endif -%}
{%- else -%}
{{- gap + '<|im_start|>' + message.role + '\n' + (message.content or '') + '<|im_end|>' -}}
{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '\n<|im_start|>assistant\n' -}}{%- endif -%}"""
