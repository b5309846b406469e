using System.Text.Json;
using KernelScope.Text;

namespace KernelScope.Tests.Text;

public class ChatTemplateTests
{
    [Fact]
    public void Conversations_render_and_encode_as_the_jinja_template_does()
    {
        List<JsonElement> rows = [.. TextFixtures.Rows("chat-cases.jsonl.gz")];
        Assert.Equal(178, rows.Count);
        Assert.Contains(rows, r => r.TryGetProperty("error", out _));
        foreach (JsonElement row in rows)
        {
            ChatMessage[] messages = [.. row.GetProperty("messages").EnumerateArray().Select(MessageOf)];
            bool prompt = row.GetProperty("add_generation_prompt").GetBoolean();
            if (row.TryGetProperty("error", out JsonElement error))
            {
                string? said = Assert.Throws<ArgumentException>(() => ChatTemplate.Render(messages, prompt)).Message;
                Assert.Equal(said, Assert.Throws<ArgumentException>(() => ChatTemplate.Encode(TextFixtures.Demo, messages, prompt))
                    .Message);
                if (messages.Length > 0)
                    Assert.Equal(error.GetString(), said);
                continue;
            }

            Assert.Equal(row.GetProperty("text").GetString(), ChatTemplate.Render(messages, prompt));
            Assert.Equal(row.Ids(), ChatTemplate.Encode(TextFixtures.Demo, messages, prompt));
        }
    }

    [Fact]
    public void A_tokenizer_without_BOS_is_refused()
    {
        GemmaTokenizer tokenizer = new TokenizerFile { BosPiece = "<none>", BosId = -1 }.Load();
        Assert.Equal(-1, tokenizer.BosId);
        Assert.Throws<ArgumentException>(() => ChatTemplate.Encode(tokenizer, [new ChatMessage("user", "Hi")], true));
    }

    private static ChatMessage MessageOf(JsonElement message) =>
        new(message.GetProperty("role").GetString()!, message.GetProperty("content").GetString()!);
}
