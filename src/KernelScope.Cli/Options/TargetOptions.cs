using System.CommandLine;
using System.Globalization;
using KernelScope.Attribution;
using KernelScope.Text;

namespace KernelScope.Cli;

/// <summary>What <c>attribute</c> attributes: a logit, a difference of two, or a loss.</summary>
internal sealed class TargetOptions
{
    private readonly Option<string?> _target = new("--target")
    {
        Description = "Attribute the logit of this token: an id, or a text " +
        "that is one token (mind the space before a word: \" king\"). A number is an id.",
        HelpName = "TOKEN"
    };
    private readonly Option<string?> _against = new("--against")
    {
        Description = "Attribute the logit of --target minus the logit of " +
        "this token.",
        HelpName = "TOKEN"
    };
    private readonly Option<int?> _at = new("--at")
    {
        Description = "The position whose logits are meant, 0 being <bos>. Default: the " +
        "last.",
        HelpName = "POSITION"
    };
    private readonly Option<bool> _loss = new("--loss") { Description = "Attribute the sum of the next-token losses, in nats." };

    public TargetOptions(Command verb)
    {
        _at.Validators.Add(r => Parsing.Require(r, _at, v => v >= 0, "--at is {0}; it must be 0 or more."));
        foreach (Option option in (Option[])[_target, _against, _at, _loss])
            verb.Options.Add(option);
    }

    /// <summary>Refuses what contradicts itself, before a model is opened.</summary>
    /// <exception cref="UsageException">Neither a target nor the loss, or both, or an option that belongs to the other.</exception>
    public void Check(ParseResult parsed)
    {
        bool loss = parsed.GetValue(_loss), target = parsed.GetValue(_target) is not null;
        if (loss == target)
            throw new UsageException(loss ? "--target and --loss were both given; one of them is attributed."
                : "what to attribute is missing: --target TOKEN or --loss.");
        if (loss && (parsed.GetValue(_against) is not null || parsed.GetValue(_at) is not null))
            throw new UsageException("--against and --at belong to --target; a loss is summed over all positions.");
    }

    /// <summary>The metric for a text.</summary>
    /// <exception cref="WorkException">A token or a position that there is not.</exception>
    public Target Read(ParseResult parsed, ModelFiles model, int[] tokens)
    {
        if (parsed.GetValue(_loss))
            return tokens.Length > 1 ? new Target("next_token_loss", AttributionMetric.NextTokenLoss(tokens), null, null, null)
                : throw new WorkException("the text has one token, which has no next-token loss.");
        int position = parsed.GetValue(_at) ?? tokens.Length - 1;
        if (position >= tokens.Length)
            throw new WorkException($"--at is {position}; the text has positions 0 to {tokens.Length - 1}.");
        NamedToken target = Token(parsed.GetValue(_target)!, "--target", model);
        NamedToken? against = parsed.GetValue(_against) is string other ? Token(other, "--against", model) : null;
        return new Target(against is null ? "logit" : "logit_difference", AttributionMetric.Logit(position, target.Id, against?.Id),
            position, target, against);
    }

    private static NamedToken Token(string text, string option, ModelFiles model)
    {
        int vocabulary = model.Config.VocabSize;
        if (!long.TryParse(text, NumberStyles.AllowLeadingSign, CultureInfo.InvariantCulture, out long id))
            id = OneToken(text, option, model.RequiredTokenizer);
        if (id < 0 || id >= vocabulary)
            throw new WorkException($"{option}: token id {id} is outside the vocabulary of {model.Name}, which has ids 0 " +
                $"to {vocabulary - 1}.");
        return new NamedToken((int)id, TokenText.Of(model.Tokenizer, (int)id));
    }

    private static int OneToken(string text, string option, GemmaTokenizer tokenizer)
    {
        var ids = new List<int>();
        tokenizer.Encode(text, ids);
        if (ids.Count == 1)
            return ids[0];
        string pieces = string.Join(' ', ids.Take(8).Select(i => $"{i} \"{Printable.Escape(TokenText.Of(tokenizer, i) ?? "")}\""));
        throw new WorkException(ids.Count == 0 ? $"{option} is empty; it needs one token." : $"{option}: '{Printable.Escape(text)}' " +
            $"is {ids.Count} tokens ({pieces}{(ids.Count > 8 ? " …" : "")}); it must be one.");
    }
}

/// <summary>What is attributed, and how it is called.</summary>
/// <param name="Name">As in the JSON.</param>
/// <param name="Metric">The function of the logits.</param>
/// <param name="Position">Whose logits; null for a loss.</param>
/// <param name="Token">The token asked for.</param>
/// <param name="Against">The token whose logit is subtracted.</param>
internal sealed record Target(string Name, AttributionMetric Metric, int? Position, NamedToken? Token, NamedToken? Against);
