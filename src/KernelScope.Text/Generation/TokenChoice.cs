using KernelScope.Devices;
using KernelScope.Hooks;
using KernelScope.Model;
using KernelScope.Text;

namespace KernelScope.Generation;

/// <summary>What happens between two steps of a generation: a token is chosen, described, and held against what ends a text.</summary>
internal sealed class TokenChoice : IDisposable
{
    private readonly Session _session;
    private readonly GenerationOptions _options;
    private readonly GemmaTokenizer? _tokenizer;
    private readonly IReadOnlyCollection<int> _stopIds;
    private readonly Sampler _sampler;
    private readonly LogProbabilities? _logProbs;
    private readonly StreamingDecoder? _decoder;
    private readonly StopText _text;

    public TokenChoice(Session session, GenerationOptions options, GemmaTokenizer? tokenizer, ReadOnlySpan<int> prompt)
    {
        int vocabSize = session.Model.Config.VocabSize;
        _session = session;
        _options = options;
        _tokenizer = tokenizer;
        _stopIds = options.StopIds ?? session.Model.Config.EosIds;
        _sampler = new Sampler(session.Model.Device, vocabSize, options.Sampling);
        _sampler.See(session.Tokens);
        _sampler.See(prompt);
        _logProbs = options.LogProbs is null ? null : new LogProbabilities(session.Model.Device, vocabSize);
        _decoder = tokenizer is null ? null : new StreamingDecoder(tokenizer);
        _text = new StopText(options.StopStrings ?? []);
    }

    /// <summary>Why the text ends with the last token; None: it goes on.</summary>
    public StopReason Stop { get; private set; }

    /// <summary>The sampler's seed, where chance has a part.</summary>
    public ulong? Seed => _options.Sampling.Temperature > 0 ? _sampler.Seed : null;

    /// <summary>The <paramref name="count"/>-th new token.</summary>
    /// <exception cref="NotFiniteException">The model's values are not finite numbers; it says where they cease to be.</exception>
    public GeneratedToken Next(Mat logits, int count)
    {
        int id = Choose(logits);
        _logProbs?.Read(logits);
        bool ends = _stopIds.Contains(id);
        // What ends a text or a turn is not text, also where it was asked to end nothing.
        bool isText = !ends && id != _options.EndOfTurnId && !_session.Model.Config.EosIds.Contains(id);
        string? text = _decoder is null ? null : isText ? Text(id) : "";
        Stop = ends ? StopReason.EndOfText
            : _text.Found ? StopReason.StopString
            : count == _options.MaxNewTokens ? StopReason.MaxNewTokens
            : _session.Position == _session.ContextLength ? StopReason.ContextFull
            : StopReason.None;
        if (_decoder is not null && Stop is not (StopReason.None or StopReason.StopString))
            text += _text.Append(_decoder.Flush()) + _text.Flush();
        return new GeneratedToken
        {
            Id = id,
            Text = text,
            Stop = Stop,
            LogProb = _logProbs?.Of(id),
            Top = _options.LogProbs > 0 ? _logProbs!.Top(_options.LogProbs.Value) : null,
        };
    }

    public void Dispose() => _sampler.Dispose();

    private int Choose(Mat logits)
    {
        try
        {
            int id = _sampler.Next(logits);
            // The soft-cap makes finite logits of infinities: then the largest lies at the cap, as hardly any other does.
            float cap = _session.Model.Config.FinalSoftcap;
            if (cap > 0 && Math.Abs(_sampler.LargestLogit) >= cap * 0.999999f)
                FirstNotFinite.RequireFinite(_session);
            return id;
        }
        catch (NotFiniteException seen)
        {
            throw FirstNotFinite.Find(_session.Model, _session.Tokens, seen);
        }
    }

    // A model's vocabulary may be larger than its tokenizer's: such ids have no text.
    private string Text(int id) => _tokenizer!.Contains(id) ? _text.Append(_decoder!.Append(id)) : "";
}
