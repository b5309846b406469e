"""Goldens for chat templates, by Jinja2 with the settings that transformers uses (its render_jinja_template, 4.5x and 5).

make_jinja_cases.py OUT.jsonl.gz         Debian's python3-jinja2 3.1.2 made the committed file (/usr/bin/python3 make_jinja_cases.py ...)

Rows: {"name", "template", "variables", "text"}, or "refused" (raise_exception's sentence) or "fails" (any other error) in place of the text. The time is 2 May 2031, 09:05:07.
The templates are our own, in the style of the families that they are named after.
"""
import datetime, gzip, json, random, sys

import jinja2
from jinja2.ext import loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment

NOW = datetime.datetime(2031, 5, 2, 9, 5, 7)


def environment():
    def raise_exception(message):
        raise jinja2.exceptions.TemplateError(message)

    def tojson(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
        return json.dumps(x, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)
    e = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols])
    e.filters["tojson"] = tojson
    e.globals["raise_exception"] = raise_exception
    e.globals["strftime_now"] = lambda form: NOW.strftime(form)
    return e


ENV = environment()
ROWS = []


def case(name, template, variables):
    row = {"name": name, "template": template, "variables": variables}
    try:
        row["text"] = ENV.from_string(template).render(**variables)
    except jinja2.exceptions.TemplateError as e:
        if type(e) is jinja2.exceptions.TemplateError:
            row["refused"] = str(e)
        else:
            row["fails"] = f"{type(e).__name__}: {e}"
    except Exception as e:
        row["fails"] = f"{type(e).__name__}: {e}"
    ROWS.append(row)


# ---------------------------------------------------------------- families

FAMILIES = {
    "gemma": "{{ bos_token }}{% if messages[0]['role'] == 'system' %}{{ raise_exception('No system turn here') }}{% endif %}\n{% for m in messages %}\n  {% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}\n    {{ raise_exception('Turns must alternate: ' ~ loop.index) }}\n  {% endif %}\n"
             "  {% set who = 'model' if m['role'] == 'assistant' else m['role'] %}\n{{ '<start_of_turn>' + who + '\\n' + m['content'] | trim + '<end_of_turn>\\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<start_of_turn>model\\n' }}{% endif %}",
    "gemma-system": "{{- bos_token -}}\n{%- if messages[0].role == 'system' -%}\n  {%- set first = messages[0].content | trim + '\n\n' -%}\n  {%- set turns = messages[1:] -%}\n{%- else -%}\n  {%- set first = '' -%}\n  {%- set turns = messages -%}\n{%- endif -%}\n"
                    "{%- for turn in turns -%}\n  {%- if (turn.role == 'user') != (loop.index0 is even) -%}\n    {{- raise_exception(\"Roles must alternate\") -}}\n  {%- endif -%}\n  {%- set role = turn.role | replace('assistant', 'model') -%}\n  {{- '<start_of_turn>' ~ role ~ '\n' ~ (first if loop.first else '') -}}\n"
                    "  {%- if turn.content is string -%}\n    {{- turn.content | trim -}}\n  {%- elif turn.content is iterable -%}\n    {%- for part in turn.content -%}\n      {%- if part.type == 'image' -%}{{ '<image>' }}{%- elif part.type == 'text' -%}{{ part.text | trim }}{%- endif -%}\n    {%- endfor -%}\n  {%- else -%}\n    {{- raise_exception('What is that?') -}}\n  {%- endif -%}\n  {{- '<end_of_turn>\n' -}}\n{%- endfor -%}\n{%- if add_generation_prompt -%}{{ '<start_of_turn>model\n' }}{%- endif -%}",
    "chatml": "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\\n' + m['content'] + '<|im_end|>' + '\\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}",
    "chatml-default": "{% if not add_generation_prompt is defined %}{% set add_generation_prompt = false %}{% endif %}{%- for m in messages %}\n{%- if loop.first and m.role != 'system' %}\n<|im_start|>system\nYou help.<|im_end|>\n{% endif %}\n{{- '<|im_start|>' ~ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}\n{%- if add_generation_prompt %}\n<|im_start|>assistant\n{% endif -%}",
    "chatml-tools": "{%- if tools %}\n    {{- '<|im_start|>system\\n' }}\n    {%- if messages[0].role == 'system' %}\n        {{- messages[0].content + '\\n\\n' }}\n    {%- endif %}\n    {{- \"# Tools\\n<tools>\" }}\n    {%- for tool in tools %}\n        {{- \"\\n\" }}\n        {{- tool | tojson }}\n    {%- endfor %}\n    {{- \"\\n</tools><|im_end|>\\n\" }}\n{%- elif messages[0].role == 'system' %}\n    {{- '<|im_start|>system\\n' + messages[0].content + '<|im_end|>\\n' }}\n{%- endif %}\n"
                    "{%- set ns = namespace(multi=true, last=messages|length - 1) %}\n{%- for m in messages[::-1] %}\n    {%- set index = (messages|length - 1) - loop.index0 %}\n    {%- if ns.multi and m.role == 'user' and not (m.content.startswith('<tool_response>') and m.content.endswith('</tool_response>')) %}\n        {%- set ns.multi = false %}\n        {%- set ns.last = index %}\n    {%- endif %}\n{%- endfor %}\n"
                    "{%- for m in messages %}\n    {%- if m.role == 'user' or (m.role == 'system' and not loop.first) %}\n        {{- '<|im_start|>' + m.role + '\\n' + m.content + '<|im_end|>' + '\\n' }}\n    {%- elif m.role == 'assistant' %}\n        {%- set content = m.content %}\n        {%- if '</think>' in content %}\n            {%- set content = m.content.split('</think>')[-1].lstrip('\\n') %}\n            {%- if loop.index0 > ns.last %}{%- set content = '<think>' + m.content.split('</think>')[0].rstrip('\\n').split('<think>')[-1].lstrip('\\n') + '</think>' + content %}{%- endif %}\n        {%- endif %}\n        {{- '<|im_start|>' + m.role + '\\n' + content }}\n"
                    "        {%- for call in m.tool_calls or [] %}\n            {%- if (loop.first and content) or not loop.first %}{{- '\\n' }}{%- endif %}\n            {%- if call.function %}{%- set call = call.function %}{%- endif %}\n            {{- '<tool_call>{\"name\": \"' ~ call.name ~ '\", \"arguments\": ' }}{{- call.arguments if call.arguments is string else call.arguments | tojson }}{{- '}</tool_call>' }}\n        {%- endfor %}\n        {{- '<|im_end|>\\n' }}\n    {%- elif m.role == 'tool' %}\n        {%- if loop.first or messages[loop.index0 - 1].role != 'tool' %}{{- '<|im_start|>user' }}{%- endif %}\n        {{- '\\n<tool_response>\\n' ~ m.content ~ '\\n</tool_response>' }}\n        {%- if loop.last or messages[loop.index0 + 1].role != 'tool' %}{{- '<|im_end|>\\n' }}{%- endif %}\n    {%- endif %}\n{%- endfor %}\n{%- if add_generation_prompt %}\n    {{- '<|im_start|>assistant\\n' }}\n    {%- if enable_thinking is defined and enable_thinking is false %}\n        {{- '<think>\\n\\n</think>\\n\\n' }}\n    {%- endif %}\n{%- endif %}",
    "llama-2": "{% if messages[0]['role'] == 'system' %}{% set loop_messages = messages[1:] %}{% set system = messages[0]['content'] %}{% else %}{% set loop_messages = messages %}{% set system = false %}{% endif %}{% for m in loop_messages %}{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('user and assistant take turns') }}{% endif %}{% if loop.index0 == 0 and system != false %}{% set content = '<<SYS>>\\n' + system + '\\n<</SYS>>\\n\\n' + m['content'] %}{% else %}{% set content = m['content'] %}{% endif %}{% if m['role'] == 'user' %}{{ bos_token + '[INST] ' + content.strip() + ' [/INST]' }}{% elif m['role'] == 'assistant' %}{{ ' ' + content.strip() + ' ' + eos_token }}{% endif %}{% endfor %}",
    "llama-3": "{% set loop_messages = messages %}{% for m in loop_messages %}{% set content = '<|start_header_id|>' + m['role'] + '<|end_header_id|>\n\n' + m['content'] | trim + '<|eot_id|>' %}{% if loop.index0 == 0 %}{% set content = bos_token + content %}{% endif %}{{ content }}{% endfor %}{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}",
    "llama-3.1": "{{- bos_token }}\n{%- if custom_tools is defined %}\n    {%- set tools = custom_tools %}\n{%- endif %}\n{%- if not date_string is defined %}\n    {%- if strftime_now is defined %}\n        {%- set date_string = strftime_now(\"%d %b %Y\") %}\n    {%- else %}\n        {%- set date_string = '26 Jul 2024' %}\n    {%- endif %}\n{%- endif %}\n{%- if not tools is defined %}\n    {%- set tools = none %}\n{%- endif %}\n\n{#- The system's words, if there are any. #}\n{%- if messages[0]['role'] == 'system' %}\n    {%- set system = messages[0]['content']|trim %}\n    {%- set messages = messages[1:] %}\n{%- else %}\n    {%- set system = \"\" %}\n{%- endif %}\n\n{{- \"<|start_header_id|>system<|end_header_id|>\\n\\n\" }}\n{%- if tools is not none %}\n    {{- 'Environment: ipython\\n' }}\n{%- endif %}\n{{- 'Today: ' + date_string + '\\n\\n' }}\n{%- if tools is not none %}\n    {%- for t in tools %}\n        {{- t | tojson(indent=4) }}\n        {{- \"\\n\\n\" }}\n    {%- endfor %}\n{%- endif %}\n{{- system }}\n{{- '<|eot_id|>' }}\n"
                 "{%- for message in messages %}\n    {%- if not (message.role == 'ipython' or message.role == 'tool' or 'tool_calls' in message) %}\n        {{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n'+ message['content'] | trim + '<|eot_id|>' }}\n    {%- elif 'tool_calls' in message %}\n        {%- if not message.tool_calls|length == 1 %}\n            {{- raise_exception('One call at a time!') }}\n        {%- endif %}\n        {%- set call = message.tool_calls[0].function %}\n        {{- '{\"name\": \"' + call.name + '\", ' }}\n        {%- for name, val in call.arguments.items() %}\n            {{- name + '=\"' ~ val ~ '\"' }}\n            {%- if not loop.last %}\n                {{- ', ' }}\n            {%- endif %}\n        {%- endfor %}\n        {{- '}<|eom_id|>' }}\n    {%- else %}\n        {{- '<|start_header_id|>ipython<|end_header_id|>\\n\\n' }}\n        {%- if message.content is mapping or message.content is iterable %}\n            {{- message.content | tojson }}\n        {%- else %}\n            {{- message.content }}\n        {%- endif %}\n        {{- '<|eot_id|>' }}\n    {%- endif %}\n{%- endfor %}\n{%- if add_generation_prompt %}\n    {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}\n{%- endif %}\n",
    "mistral": "{%- if messages[0][\"role\"] == \"system\" %}\n    {%- set system_message = messages[0][\"content\"] %}\n    {%- set loop_messages = messages[1:] %}\n{%- else %}\n    {%- set loop_messages = messages %}\n{%- endif %}\n{%- set user_messages = loop_messages | selectattr(\"role\", \"equalto\", \"user\") | list %}\n\n{#- Turns alternate, tools aside. #}\n{%- set ns = namespace() %}\n{%- set ns.index = 0 %}\n{%- for message in loop_messages %}\n    {%- if not (message.role == \"tool\" or (message.tool_calls is defined and message.tool_calls is not none)) %}\n        {%- if (message[\"role\"] == \"user\") != (ns.index % 2 == 0) %}\n            {{- raise_exception(\"Not user, assistant, user, assistant\") }}\n        {%- endif %}\n        {%- set ns.index = ns.index + 1 %}\n    {%- endif %}\n{%- endfor %}\n\n{{- bos_token }}\n{%- for message in loop_messages %}\n    {%- if message[\"role\"] == \"user\" %}\n        {%- if tools is defined and tools is not none and (message == user_messages[-1]) %}\n            {{- \"[AVAILABLE_TOOLS] [\" }}\n            {%- for tool in tools %}\n                {%- set tool = tool.function %}\n                {{- '{\"type\": \"function\", \"function\": {' }}\n                {%- for key, val in tool.items() if key != \"return\" %}\n                    {%- if val is string %}\n                        {{- '\"' + key + '\": \"' + val + '\"' }}\n                    {%- else %}\n                        {{- '\"' + key + '\": ' + val|tojson }}\n                    {%- endif %}\n                    {%- if not loop.last %}\n                        {{- \", \" }}\n                    {%- endif %}\n                {%- endfor %}\n                {{- \"}}\" }}\n                {%- if not loop.last %}{{- \", \" }}{%- else %}{{- \"]\" }}{%- endif %}\n            {%- endfor %}\n            {{- \"[/AVAILABLE_TOOLS]\" }}\n        {%- endif %}\n        {%- if loop.last and system_message is defined %}\n            {{- \"[INST] \" + system_message + \"\\n\\n\" + message[\"content\"] + \"[/INST]\" }}\n        {%- else %}\n            {{- \"[INST] \" + message[\"content\"] + \"[/INST]\" }}\n        {%- endif %}\n    {%- elif message[\"role\"] == \"assistant\" %}\n        {{- \" \" + message[\"content\"]|trim + eos_token}}\n    {%- elif message[\"role\"] == \"tool\" %}\n        {{- '[TOOL_RESULTS] {\"content\": ' + message.content|string + \"}[/TOOL_RESULTS]\" }}\n    {%- else %}\n        {{- raise_exception(\"Only user, assistant and tool: \" ~ message.role) }}\n    {%- endif %}\n{%- endfor %}\n",
    "phi-3": "{% for message in messages %}{% if message['role'] == 'system' %}{{'<|system|>\n' + message['content'] + '<|end|>\n'}}{% elif message['role'] == 'user' %}{{'<|user|>\n' + message['content'] + '<|end|>\n'}}{% elif message['role'] == 'assistant' %}{{'<|assistant|>\n' + message['content'] + '<|end|>\n'}}{% endif %}{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% else %}{{ eos_token }}{% endif %}",
    "phi-4": "{% for message in messages %}{% if (message['role'] == 'system') %}{{'<|im_start|>system<|im_sep|>' + message['content'] + '<|im_end|>'}}{% elif (message['role'] == 'user') %}{{'<|im_start|>user<|im_sep|>' + message['content'] + '<|im_end|>'}}{% elif (message['role'] == 'assistant') %}{{'<|im_start|>assistant<|im_sep|>'}}{% generation_off %}{% endif %}{% endfor %}".replace("{% generation_off %}", "{{ message['content'] + '<|im_end|>' }}") + "{% if add_generation_prompt %}{{ '<|im_start|>assistant<|im_sep|>' }}{% endif %}",
    "zephyr": "{% for message in messages %}\n{% if message['role'] == 'user' %}\n{{ '<|user|>\n' + message['content'] + eos_token }}\n{% elif message['role'] == 'system' %}\n{{ '<|system|>\n' + message['content'] + eos_token }}\n{% elif message['role'] == 'assistant' %}\n{{ '<|assistant|>\n'  + message['content'] + eos_token }}\n{% endif %}\n{% if loop.last and add_generation_prompt %}\n{{ '<|assistant|>' }}\n{% endif %}\n{% endfor %}",
    "alpaca": "{% if messages[0].role == 'system' %}{{ messages[0].content }}{% set start = 1 %}{% else %}Below is an instruction.{% set start = 0 %}{% endif %}\n\n{% for m in messages[start:] %}\n### {{ {'user': 'Instruction', 'assistant': 'Response'}.get(m.role, m.role | title) }}:\n{{ m.content | trim }}\n\n{% endfor %}{% if add_generation_prompt %}### Response:\n{% endif %}",
    "macro": "{%- macro turn(role, content, end='</s>') -%}\n[{{ role | upper }}] {{ content | trim }}{{ end }}\n{% endmacro -%}\n{%- macro all(items) -%}{% for i in items %}{{ turn(i.role, i.content) if not loop.last else turn(i.role, content=i.content, end='') }}{% endfor %}{%- endmacro -%}\n{{ all(messages) }}{% if add_generation_prompt %}[A]{% endif %}",
    "breaks": "{%- for m in messages -%}\n  {%- if m.role == 'system' -%}{%- continue -%}{%- endif -%}\n  {%- if loop.index > 4 -%}...{%- break -%}{%- endif -%}\n  {{ loop.index }}/{{ loop.length }} {{ m.role }}: {{ m.content }}{{ '\\n' if not loop.last }}\n{%- else -%}\nnothing\n{%- endfor -%}",
}

SPACE = ["x", "  x  ", "\n\nx\n", "\tx\t", "\x1cx\x1f", "\u3000x\u00a0", "", " ", "a\u200b", "\ufeffb"]


def conversations(rng):
    u, a, s = "user", "assistant", "system"
    turn = lambda role, content, **more: {"role": role, "content": content, **more}
    call = lambda name, arguments: [{"type": "function", "function": {"name": name, "arguments": arguments}}]
    yield [turn(u, "Hi")]
    yield [turn(u, "Hi"), turn(a, "Hello!")]
    yield [turn(u, "Hi"), turn(a, " Hello! "), turn(u, "How are you?\n")]
    yield [turn(s, "Be brief."), turn(u, "Hi")]
    yield [turn(s, " Be brief. \n"), turn(u, "Hi"), turn(a, "Yo"), turn(u, "And?")]
    yield [turn(s, "only system")]
    yield []
    yield [turn(a, "I begin")]
    yield [turn(u, "a"), turn(u, "b")]
    yield [turn("tool", "result"), turn(u, "b")]
    yield [turn(u, "q"), turn(a, "<think>\nhm\n</think>\n\nanswer"), turn(u, "more"), turn(a, "<think>\nso\n</think>\n\nlast")]
    yield [turn(u, "weather?"), turn(a, "", tool_calls=call("get", {"place": "Łódź \"x\"", "n": 3, "deep": {"a": [1, 2.5, None, True]}})), turn("tool", "{\"t\": 21}"), turn("tool", "two"), turn(a, "21"), turn(u, "ok")]
    yield [turn(u, "w"), turn(a, "Let me", tool_calls=call("f", "{\"a\": 1}") + call("g", {})), turn("tool", {"k": 1})]
    yield [turn(u, [{"type": "text", "text": " see "}, {"type": "image"}]), turn(a, "a cat")]
    yield [turn(u, None)]
    yield [turn("critic", "hm"), turn("User", "B")]
    for x in SPACE:
        yield [turn(u, x), turn(a, x), turn(u, x + x)]
    for x in ["{{ messages }}", "{% raise %}", "<end_of_turn>", "<bos>", "\\n", "\"q\" & 'p' <b>", "你好 😀", "e\u0301", "a\0b", "\u2028", "```py\nprint('x')\n```", "</tool_response>", "<tool_response>x</tool_response>"]:
        yield [turn(u, x), turn(a, x)]
    for _ in range(10):
        n = rng.randint(1, 9)
        yield [turn(rng.choice([u, a]) if rng.random() < 0.1 else (u, a)[i % 2], "".join(rng.choice("ab \n\tñ😀<>{}%'\"\\") for _ in range(rng.randint(0, 12)))) for i in range(n)]


TOOLS = [{"type": "function", "function": {"name": "get", "description": "Gets \"it\" — ü", "parameters": {"type": "object", "properties": {"place": {"type": "string"}, "n": {"type": "integer"}}, "required": ["place"]}, "return": {"type": "number"}}}, {"type": "function", "function": {"name": "g", "description": "", "parameters": {}}}]


def families():
    rng = random.Random(4124)
    talks = list(conversations(rng))
    for name, template in FAMILIES.items():
        for messages in talks:
            for generation in (True, False):
                variables = {"messages": messages, "add_generation_prompt": generation, "bos_token": "<bos>", "eos_token": "<eos>", "tools": None, "documents": None}
                if rng.random() < 0.2:
                    variables["tools"] = TOOLS
                if rng.random() < 0.1:
                    del variables["tools"], variables["add_generation_prompt"]
                if rng.random() < 0.1:
                    variables["enable_thinking"] = False
                case(name, template, variables)


# ---------------------------------------------------------------- the language, piece by piece

VALUES = {"n": None, "t": True, "f": False, "i": 7, "z": 0, "neg": -3, "d": 2.5, "big": 1e22, "small": 1.5e-7, "s": "Hello, World", "e": "", "w": "  pad \n", "u": "naïve 😀 ß", "l": [3, 1, 2], "ls": ["b", "A", "c"], "el": [], "m": {"a": 1, "b": "x", "items": "own"}, "em": {}, "x": {"y": {"z": [10, 20]}},
          "r": [{"k": "p", "v": 2, "on": True}, {"k": "Q", "v": 1}, {"k": "p", "v": 3, "on": False}], "nested": [[1, 2], [3]], "mixed": [1, "1", 1.0, None, True]}

EXPRESSIONS = """1 + 2 * 3|7 // 2|-7 // 2|7 % -3|-7 % 3|2 ** 10|2 ** -1|7 / 2|6 / 2|7.5 // 2|-7.5 % 2|1e3|1_000|1.5e-7|0.1 + 0.2|1e16|1e15|123456789012345678|1e22|1e-5|0.0001|3.0|-0.0|big|small|d * 2|i / 0|i % 0|true + 1|true and 5|0 or "x"|"" or none|not 1|not none|not not e
i == 7|i == 7.0|"a" == 'a'|t == 1|n == none|l == [3, 1, 2]|m == {"a": 1, "b": "x", "items": "own"}|1 < 2 < 3|1 < 3 < 2|"a" < "b"|"B" < "a"|[1, 2] < [1, 3]|"😀" > "\\uffff"|1 < "a"|none < 1|1 != 2|i >= 7|i <= 6.5|missing == missing|missing == none
"a" in "banana"|"a" not in "banana"|3 in l|"a" in m|"z" in m|1 in "1"|none in mixed|"" in s|3 in nested|[3] in nested|missing in l|1 in missing|1 in none|x in l
s ~ 1 ~ none ~ true ~ 2.0|"a" "b"|"a" + 1|"a" + "b" * 3|3 * "ab"|[1] * 2|[1] + [2]|(1,) + (2,)|[1] + (2,)|"%s" ~ 1|s + missing|missing ~ "x"|-i|+i|-"a"|- i ** 2|2 ** 3 ** 2|"a" ~ 1 + 2
s[0]|s[-1]|s[100]|s[1:4]|s[:-2]|s[::-1]|s[::2]|s[5:1:-1]|u[6]|u[:7]|l[0]|l[-1]|l[1:]|l[9]|l["0"]|m["a"]|m.a|m["zz"]|m.zz|m.zz.y|m.zz is defined|x.y.z[1]|x["y"].z.0|x.q.r|n.a|i.a|s.nope|missing|missing.a|missing[0]|(1, 2)[0]|[1, 2, 3][1:][0]|l[1:1]|l[::0]|s["upper"]()
s.upper()|s.lower()|w.strip() ~ "|"|w.lstrip() ~ "|"|w.rstrip() ~ "|"|s.strip("Hd")|s.split(", ")|s.split("l", 1)|s.split()|"  a  b  c  ".split(none, 1)|"  a  b  c  ".rsplit(none, 1)|"a,b,c".rsplit(",", 1)|"a,b,c".rsplit(",")|"".split()|"".split(",")|s.replace("l", "L")|s.replace("l", "L", 1)|s.replace("", "-")|s.startswith("He")|s.startswith(("x", "He"))|s.endswith("ld")|s.find("o")|s.rfind("o")|s.find("zz")|s.count("l")|s.index("o")|s.index("zz")|s.title()|s.capitalize()|", ".join(ls)|"-".join("abc")|"".join([1])|"x".join(l)|"12".isdigit()|"1a".isdigit()|"ab".isalpha()|"a1".isalnum()|" ".isspace()|"AB".isupper()|"ab".islower()|"a\\nb\\r\\nc".splitlines()|"a\\nb\\n".splitlines(true)|"a=b=c".partition("=")|"a=b=c".rpartition("=")|"abc".removeprefix("a")|"abc".removesuffix("c")|u.upper()|"ΑΣ".lower()|u.title()|s.append("x")
m.items() | list|m.values() | list|m.get("a")|m.get("q")|m.get("q", 5)|m.keys() | list|em.items() | list|m.update({"c": 1})|l.append(4)|l.count(1)|l.index(2)|l.copy()|m.copy()|m.a.b|none.x
"yes" if t else "no"|"yes" if f|("yes" if f) is defined|1 if f else 2 if f else 3|"a" if n is none and not f else "b"
l | length|s | length|m | length|u | length|missing | length|i | length|l | first|l | last|el | first|el | last|s | first|s | last|missing | first|l | join(", ")|l | join|r | join(",", attribute="k")|ls | sort|ls | sort(case_sensitive=true)|l | sort(reverse=true)|r | sort(attribute="v") | map(attribute="k") | list|l | reverse | list|s | reverse|l | sum|r | sum(attribute="v")|l | min|l | max|ls | max|el | min|ls | unique | list|["a", "A", "b"] | unique | list|["a", "A", "b"] | unique(true) | list
s | upper|s | lower|s | title|s | capitalize|w | trim ~ "|"|"xxaxx" | trim("x")|s | replace("World", "You")|s | replace("l", "L", 2)|none | trim|none | upper|i | string|l | string|m | string|mixed | string|nested | string|u | string|none | string|s | list|m | list|i | list|missing | list|"3.7" | int|"x" | int|"x" | int(5)|3.9 | int|"12" | int + 1|none | int|"2.5" | float|"x" | float|3 | float|true | int|2.567 | round(2)|2.5 | round|3.5 | round|2.1 | round(method="ceil")|2.9 | round(0, "floor")|-3 | abs|7 | round
missing | default("d")|missing | default|n | default("d")|n | default("d", true)|e | default("d", boolean=true)|e | d("x")|missing | d([]) | length|s | default("d")|m.q | default("none here")|missing.a | default("x")
r | map(attribute="k") | list|r | map(attribute="on") | list|r | map(attribute="on", default="?") | list|ls | map("upper") | list|ls | map("upper") | join("+")|l | map("string") | join|r | selectattr("on") | list | length|r | selectattr("on", "defined") | map(attribute="v") | list|r | selectattr("k", "equalto", "p") | map(attribute="v") | list|r | selectattr("v", "gt", 1) | list | length|r | rejectattr("k", "eq", "p") | list|r | rejectattr("on") | list | length|l | select("odd") | list|l | reject("odd") | list|mixed | select("string") | list|mixed | select | list|["a", "", "b"] | select | join(",")|r | selectattr("k", "in", ["p"]) | list | length|r | selectattr("zz.y", "undefined") | list | length
m | items | list|missing | items | list|i | items | list|m | dictsort|{"b": 1, "A": 2} | dictsort|{"b": 1, "A": 2} | dictsort(true)|{"b": 1, "A": 2} | dictsort(by="value")|{"b": 1, "A": 2} | dictsort(reverse=true)|"a\\nb\\n\\nc" | indent|"a\\nb" | indent(2)|"a\\nb" | indent(2, true)|"a\\n\\nb" | indent(2, blank=true)|"a\\nb" | indent("> ")|"a\\n" | indent(2) ~ "|"|s | wordcount|"a b  c" | wordcount
m | tojson|l | tojson|s | tojson|u | tojson|u | tojson(ensure_ascii=true)|mixed | tojson|nested | tojson(indent=2)|em | tojson(indent=2)|[] | tojson(indent=2)|{"b": [1, {"c": none}], "a": 1.5} | tojson(indent=4)|{"b": 1, "a": 2} | tojson(sort_keys=true)|x | tojson(separators=(",", ":"))|"a\\"b\\\\c\\n\\t\\u0001/<>&'" | tojson|1e22 | tojson|1.0 | tojson|{1: 2, true: 3, none: 4, 1.5: 5} | tojson|missing | tojson|(1, 2) | tojson|"\\u007f\\u2028" | tojson|m | tojson(2)
n is none|i is number|t is number|t is boolean|i is integer|t is integer|d is float|s is string|m is mapping|l is sequence|s is sequence|l is iterable|i is iterable|missing is iterable|missing is defined|missing is undefined|i is odd|i is even|i is divisibleby(7)|i is divisibleby 3|s is upper|"AB" is upper|"ab" is lower|i is eq 7|i is equalto(7)|i is ne 7|i is gt 3|i is ge(8)|i is lt 3|i is le 7|3 is in l|3 is in(l)|9 is not in l|n is sameas none|t is sameas true|1 is sameas true|t is true|i is true|f is false|z is false|range is callable|s is callable|s is not string|not s is string|m.a is defined and m.a == 1|i is == 7|x.y is mapping
range(3) | list|range(1, 4) | list|range(5, 0, -2) | list|range(0) | list|range(3) | length|dict(a=1, b=2)|dict({"a": 1}, b=2)|{"a": 1, "b": [2]}|{1: "a", 1.0: "b", true: "c"}|[1, [2, (3, 4)], {"k": none}]|(1,)|()|[]|{}|"it's"|["it's"]|['say "x"']|["both ' and \\""]|["\\n\\t\\\\\\x00\\u2028é😀"]|[1.0, 1e22, true]|namespace(a=1).a|namespace({"a": 2}, b=3).b|namespace().q|strftime_now("%d %b %Y")|strftime_now("%Y-%m-%d %H:%M:%S %B %A %a %j %y %I %p %%")|strftime_now("%-d/%-m")|raise_exception("no: " ~ i)|raise_exception("é")|range(200000) | length|nothing()|s()|m.a()|1(2)
'\\x41\\u00e9\\U0001f600\\101\\q\\''|"a\\
b"|"tab\\there"|'\\\\n'|"\\"" """.replace("\\\\", "\\").split("\n")

STATEMENTS = [
    "{% for i in l %}{{ i }}{% endfor %}", "{% for i in el %}{{ i }}{% else %}none{% endfor %}", "{% for k, v in m.items() %}{{ k }}={{ v }};{% endfor %}", "{% for k in m %}{{ k }}{% endfor %}", "{% for c in 'añ😀' %}[{{ c }}]{% endfor %}", "{% for i in missing %}x{% else %}y{% endfor %}", "{% for i in n %}x{% endfor %}", "{% for i in 3 %}x{% endfor %}",
    "{% for i in l if i > 1 %}{{ loop.index }}:{{ i }}/{{ loop.length }} {% else %}q{% endfor %}", "{% for i in l if i > 5 %}x{% else %}q{% endfor %}", "{% for i in l %}{{ loop.index }}{{ loop.index0 }}{{ loop.revindex }}{{ loop.revindex0 }}{{ loop.first }}{{ loop.last }}{{ loop.depth }}{{ loop.previtem }}{{ loop.nextitem }}{{ loop.cycle('a', 'b') }} {% endfor %}", "{% for i in [1,1,2] %}{{ loop.changed(i) }}{% endfor %}", "{% for i in l %}{{ loop.previtem is defined }}{% endfor %}",
    "{% for i in l %}{% for j in nested %}{{ loop.index }}{{ i }}{% endfor %}{{ loop.index }}{% endfor %}", "{% for (a, b) in [(1, 2), (3, 4)] %}{{ a + b }} {% endfor %}", "{% for a, (b, c) in [(1, (2, 3))] %}{{ a }}{{ b }}{{ c }}{% endfor %}", "{% for a, b in [(1,)] %}x{% endfor %}", "{% for i in range(10) %}{% if i == 2 %}{% continue %}{% endif %}{% if i == 5 %}{% break %}{% endif %}{{ i }}{% endfor %}", "{% for i in l %}{% set q = i %}{% endfor %}{{ q }}", "{% set q = 0 %}{% for i in l %}{% set q = q + i %}{{ q }} {% endfor %}{{ q }}",
    "{% set ns = namespace(q=0) %}{% for i in l %}{% set ns.q = ns.q + i %}{% endfor %}{{ ns.q }}", "{% set m.q = 1 %}", "{% set missing.q = 1 %}", "{% set a, b = 1, 2 %}{{ a }}{{ b }}", "{% set a, b = (1, 2, 3) %}", "{% set a = 1, 2 %}{{ a }}", "{% if t %}{% set q = 1 %}{% endif %}{{ q }}", "{% set q %}a{{ i }}b{% endset %}{{ q | upper }}{{ q }}", "{% set q | upper %}ab{% endset %}{{ q }}", "{% set q | replace('a', 'b') | upper %}aab{% endset %}{{ q }}", "{% set s = 5 %}{{ s }}", "{% with a = 1, b = 2 %}{{ a + b }}{% endwith %}{{ a }}", "{% with %}{% set q = 1 %}{{ q }}{% endwith %}{{ q }}", "{% filter upper %}abc{{ s }}{% endfilter %}", "{% filter replace('a', 'b') | upper %}aab{% endfilter %}",
    "{% macro f(a, b=2, c=none) %}{{ a }}{{ b }}{{ c }}{% endmacro %}{{ f(1) }}|{{ f(1, 3) }}|{{ f(b=1, a=2) }}|{{ f() }}|{{ f(1, c=f(2)) }}", "{% macro f(a) %}{{ a }}{% endmacro %}{{ f(1, 2) }}", "{% macro f(a) %}{{ a }}{% endmacro %}{{ f(q=2) }}", "{% macro f(n) %}{% if n > 0 %}{{ n }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(5) }}", "{% set q = 1 %}{% macro f() %}{{ q }}{{ i }}{% endmacro %}{{ f() }}", "{% macro f(a, b=a) %}{{ b }}{% endmacro %}{{ f(4) }}", "{% macro f() %}{% set q = 3 %}{{ q }}{% endmacro %}{{ f() }}{{ q }}", "{% macro f(x) %}  {{ x }}  {% endmacro %}[{{ f(1) | trim }}]", "{{ [1, 2] | map('string') | list }}", "{% macro f(x) %}{{ x }}{% endmacro %}{{ f is callable }}{{ f(1) is string }}",
    "{% raw %}{{ not }} {% this %}{% endraw %}", "{%- raw -%}  {{ x }}  {%- endraw -%} z", "a\n{% raw %}\n b\n{% endraw %}\nc", "{# a comment #}x", "{# {{ nested }} #}", "x{#- c -#}  y", "a {# c #}\n b", "  {# c #}\n b", "{{ '}}' }}", "{{ {'a': {'b': 1}} }}", "{{ {'a':{'b':1}}}}", "{% if '%}' %}x{% endif %}", "{{ \"{{\" }}", "{{- 'a' -}}", "a\n", "a\n\n", "\n", "", "a\r\nb\rc\r\n", "{{ 'a\r\nb' }}",
    "a\n  {% if t %}\n  b\n  {% endif %}\nc", "a\n  {%- if t %}\n  b\n  {%- endif %}\nc", "a\n  {% if t -%}\n  b\n  {%- endif -%}\nc", "a\n  {%+ if t %}\n  b\n  {%+ endif +%}\nc", "a {% if t %} b {% endif %} c", "  {{ i }}\n  {{ i }}\n", "\t {% if t %}x{% endif %}", "x  {% if t %}y{% endif %}", "{% if t %}\n\n x{% endif %}\n\n", "a\n {{- i }}\n b {{ i -}} \n c", "{% if t %}  {% if t %}x{% endif %}{% endif %}", "{% set q = 1 %}\n{% set p = 2 %}\n{{ q }}{{ p }}", "  {% set q = 1 %}  {% set p = 2 %}  z", "{% for i in l %}\n  {{ i }}\n{% endfor %}\n", "{% for i in l -%}\n  {{ i }}\n{%- endfor %}\n", "{%if t%}x{%endif%}", "{%-if t-%} x {%-endif-%}", "a \u00a0{%- if t %}x{% endif %}", "a\x1c{%- if t %}x{% endif %}", "{{ i }}\n{{ i }}", "{{ i }}\n\n", "a\n  {# c #}\n  b", "a\n  {#- c #}\n  b", "{{ i -}}\n   {% if t %}x{% endif %}", "{{ i }}   {% if t %}x{% endif %}", "{# c #}   {% if t %}x{% endif %}", "{{ '' -}}\n   {% if t %}x{% endif %}",
    "{% if f %}a{% elif n %}b{% elif i %}c{% else %}d{% endif %}", "{% if f %}a{% endif %}", "{% if missing %}a{% else %}b{% endif %}", "{% if missing.x %}a{% endif %}", "{% if i == 7 and (t or f) %}a{% endif %}", "{% if not missing is defined %}a{% endif %}", "{% if s is string and s | length > 3 %}a{% endif %}", "{% if x.y is defined and x.y.z %}a{% endif %}", "{% if l %}{{ l[0] }}{% endif %}",
    "{% if t %}", "{% endif %}", "{{ 1 + }}", "{{ }}", "{{ a b }}", "{% for %}x{% endfor %}", "{% for i l %}x{% endfor %}", "{% set %}", "{% set 1 = 2 %}", "{{ 'a }}", "{{ (1 }}", "{{ 1) }}", "{{ [1, 2 }}", "{{ {1 2} }}", "{% if t %}x{% else %}y{% else %}z{% endif %}", "{{ 1 ! 2 }}", "{{ a.}}", "{{ a[] }}", "{{ a|}}", "{{ a is }}", "{% break %}", "{% unknown %}", "{{", "{%", "{# x", "{{ f(a=1, 2) }}", "{{ x | nofilter }}", "{{ x is notest }}", "{% raw %}x", "{% macro f( %}{% endmacro %}", "{% for i in l %}x{% endif %}",
    "{{ 1, 2 }}", "{{ (1, 2,) }}", "{{ [1, 2,] }}", "{{ {'a': 1,} }}", "{{ l[0], l[1] }}", "{{ not t }}", "{{ not t == f }}", "{{ 1 if t else 2, 3 }}", "{{ s | upper | lower | length }}", "{{ (s | upper).lower() }}", "{{ s.upper() | lower }}", "{{ -1 | abs }}", "{{ 2 + 3 | string | length }}", "{{ l | map('string') | join(', ') | upper ~ '!' }}", "{{ 'a' ~ 'b' | upper }}", "{{ ('a' ~ 'b') | upper }}", "{{ 'a' + 'b' | upper }}", "{{ l[l | length - 1] }}", "{{ r[0]['k'] ~ r[-1].v }}", "{{ (r | last).k }}", "{{ (r | selectattr('k', 'eq', 'Q') | first).v }}", "{{ r | map(attribute='k') | map('upper') | unique | list }}",
    "{{ x.y.z | map('string') | map('length') | sum }}", "{{ 'abc' is in ['abc'] }}", "{{ i is divisibleby 7 and t }}", "{{ missing is defined or t }}", "{{ s is string if t else 3 }}", "{{ i is gt 3 if t }}", "{% for i in l recursive_off %}{% endfor %}", "{{ loop }}", "{{ true }}{{ True }}{{ none }}{{ None }}{{ false }}", "{{ self }}"[:0] + "{{ 1 }}", "{% set x = [1] + [2] %}{{ x[1] }}", "{% for t in [1, 2] %}{{ t }}{% endfor %}{{ t }}", "{% set loop = 3 %}{{ loop }}", "{% for a in [1] %}{% set i = i + 1 %}{{ i }}{% endfor %}{{ i }}",
    "{% generation %}x{% endgeneration %}"[:0] + "y", "{{ '%d items' | length }}", "{{ m['a']['b'] }}", "{{ m.items | length }}", "{{ 'x'.join(['a', 'b']) }}", "{{ ('a', 'b') | join }}", "{{ messages[-1]['content'] }}", "{{ missing[0]['a'] }}", "{{ [missing] }}", "{{ [missing] | tojson }}", "{{ missing + 1 }}", "{{ missing | upper }}~", "{{ missing | trim }}~", "{{ missing | int }}", "{{ missing ~ missing }}~", "{{ not missing }}", "{{ missing or 'x' }}", "{{ missing == '' }}", "{{ missing.foo.bar is defined }}", "{{ m.foo is defined and m.foo.bar }}", "{{ (m.foo | default({})).bar is defined }}",
]


def main():
    families()
    for line in EXPRESSIONS:
        for expression in split_outside(line):
            case("expression", "{{ " + expression + " }}", VALUES)
    for template in STATEMENTS:
        case("statement", template, VALUES)
    data = "".join(json.dumps(r, separators=(",", ":")) + "\n" for r in ROWS).encode()
    with open(sys.argv[1], "wb") as raw, gzip.GzipFile(fileobj=raw, mode="wb", mtime=0, filename="") as out:
        out.write(data)
    print(len(ROWS), "rows,", sum("text" in r for r in ROWS), "texts,", sum("refused" in r for r in ROWS), "refused,", sum("fails" in r for r in ROWS), "fail; jinja2", jinja2.__version__)


def split_outside(line):
    """Parts of a line between bars that stand alone; bars of filters have spaces around them."""
    import re
    return [p for p in re.split(r"(?<! )\|(?! )", line) if p.strip() and p != '"' and not (p.count('"') % 2 and "'" not in p)]


if __name__ == "__main__":
    main()
