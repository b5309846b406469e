using KernelScope.Generation;
using KernelScope.Model;
using KernelScope.Text;

namespace KernelScope.Cli;

/// <summary>Generations from one prompt in one session, each from its beginning.</summary>
internal sealed class GenerationRuns(Session session, int[] prompt, GemmaTokenizer? tokenizer, CancellationToken cancellation)
{
    /// <summary>A generation that begins anew.</summary>
    public Generator Begin(GenerationOptions options)
    {
        session.Reset();
        return new Generator(session, options, tokenizer);
    }

    /// <summary>Generates a whole text. Where no seed was asked for, the one that was drawn is put into the options, so that the next text has the same.</summary>
    public GeneratedText Complete(ref GenerationOptions options)
    {
        Generator generator = Begin(options);
        GeneratedToken[] tokens = [.. generator.GenerateTokens(prompt, cancellation)];
        options = options with { Sampling = options.Sampling with { Seed = generator.Seed } };
        return Text(tokens, generator, tokenizer);
    }

    /// <summary>What was generated, as the verbs give it.</summary>
    public static GeneratedText Text(IReadOnlyList<GeneratedToken> tokens, Generator generator, GemmaTokenizer? tokenizer)
    {
        string stop = generator.Stop switch
        {
            StopReason.EndOfText => "end_of_text",
            StopReason.ContextFull => "context_full",
            StopReason.StopString => "stop_string",
            _ => "max_new_tokens",
        };
        bool hasText = tokenizer is not null && tokens.All(t => tokenizer.Contains(t.Id));
        return new GeneratedText([.. tokens.Select(t => t.Id)], hasText ? string.Concat(tokens.Select(t => t.Text)) : null, stop);
    }
}
