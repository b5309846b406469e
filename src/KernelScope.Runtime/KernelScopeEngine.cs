using System.Diagnostics;
using System.Runtime.CompilerServices;
using KernelScope.Chat;
using KernelScope.Generation;
using KernelScope.Hooks;
using KernelScope.Model;
using KernelScope.Text;
using Microsoft.Extensions.Logging;
using Microsoft.Extensions.Logging.Abstractions;

namespace KernelScope.Runtime;

/// <summary>
/// A model and its SAEs, open for many requests at once: one thread feeds them to the model together (continuous batching), so that eight
/// texts cost little more than one.
/// </summary>
/// <remarks>
/// <para>Safe for any number of threads. Every request has a session of its own; edits of one never change another.</para>
/// <para>
/// Each round the engine feeds at most one piece of one prompt (<see cref="EngineOptions.PrefillRows"/>), then one token of every running
/// request. With <c>exact</c> precision what a
/// request gets does not depend on which others run, on a device whose rows do not depend on each other (see <see cref="Devices.Device"/>).
/// </para>
/// <para>
/// A reader who stops (leaves the loop, cancels, throws) ends its request before the engine's next call; its memory goes back then. An
/// error in one request ends that one alone.
/// </para>
/// </remarks>
/// <example>
/// <code>
/// await using KernelScopeEngine engine = await KernelScopeEngine.OpenAsync(new EngineOptions { Model = "google/gemma-2-2b-it" });
/// await foreach (GeneratedToken token in engine.GenerateAsync(new GenerationRequest { Prompt = "Once upon a time" }))
///     Console.Write(token.Text);
/// </code>
/// </example>
public sealed class KernelScopeEngine : IAsyncDisposable, IDisposable
{
    /// <summary>Name of the engine's <see cref="System.Diagnostics.Metrics.Meter"/> and <see cref="ActivitySource"/>.</summary>
    public const string TelemetryName = "KernelScope";

    private static readonly ActivitySource Activities = new(TelemetryName);
    private readonly EngineParts _parts;
    private readonly EngineLimits _limits;
    private readonly Scheduler _scheduler;
    private readonly Lock _gate = new();
    private Task? _disposal;

    private KernelScopeEngine(EngineParts parts, EngineOptions options, ILogger logger)
    {
        _parts = parts;
        _limits = EngineLimits.From(options, parts.WeightBytes);
        int most = Model.Config.ContextLength;
        ContextLength = options.ContextLength == 0 ? most : Math.Min(options.ContextLength, most);
        _scheduler = new Scheduler(Model, parts, _limits, options.MeterFactory, logger);
    }

    /// <summary>An engine that nobody disposed: its thread ends, and lets go of the model.</summary>
    ~KernelScopeEngine() => _scheduler?.Stop();

    /// <summary>What the model was opened by.</summary>
    public string ModelName => _parts.ModelName;

    /// <summary>The model, for what the engine has no request for. Its work and the engine's take turns on the device.</summary>
    public Gemma2Model Model => _parts.Model;

    /// <summary>The tokenizer; null if there is none, in which case requests are made of ids.</summary>
    public GemmaTokenizer? Tokenizer => _parts.Tokenizer;

    /// <summary>How conversations are written: by the chat template of the model's folder, or in Gemma's turns.</summary>
    /// <exception cref="InvalidDataException">The folder's template cannot be used.</exception>
    /// <exception cref="ArgumentException">The model has no tokenizer.</exception>
    public ChatFormat Chat => _parts.Chat;

    /// <summary>The SAEs by name.</summary>
    public IReadOnlyDictionary<string, EngineSae> Saes => _parts.Saes;

    /// <summary>Most tokens of one request, prompt and new ones together.</summary>
    public int ContextLength { get; }

    /// <summary>Most requests that run at once.</summary>
    public int MaxRunning => _limits.MaxRunning;

    /// <summary>Requests that wait at this moment.</summary>
    public int Waiting => _scheduler.Load.Waiting;

    /// <summary>Requests that run at this moment.</summary>
    public int Running => _scheduler.Load.Running;

    /// <summary>Opens a model and its SAEs on a device.</summary>
    /// <param name="options">What and how much; read here only.</param>
    /// <param name="progress">Told how much of the model is loaded, from 0 to 1.</param>
    /// <param name="cancellationToken">Stops it; nothing stays open.</param>
    /// <returns>The engine, which the caller disposes.</returns>
    /// <exception cref="ArgumentException">An option cannot be meant, or an SAE does not fit the model.</exception>
    /// <exception cref="InvalidDataException">A file is missing, malformed or not supported; the message says which.</exception>
    /// <exception cref="OperationCanceledException">Cancelled.</exception>
    public static Task<KernelScopeEngine> OpenAsync(
        EngineOptions options, IProgress<double>? progress = null, CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(options);
        options.Validate();
        return Task.Run(() => Open(options, progress, cancellationToken), cancellationToken);
    }

    /// <summary>The ids of a text as a request's prompt has them: BOS, then the text's.</summary>
    /// <param name="text">The text.</param>
    /// <returns>The ids.</returns>
    /// <exception cref="ArgumentException">The model has no tokenizer.</exception>
    public int[] Encode(string text)
    {
        ArgumentNullException.ThrowIfNull(text);
        if (Tokenizer is null)
            throw new ArgumentException("The model has no tokenizer, so a text cannot be read; give token ids.");
        var ids = new List<int> { _parts.BosId };
        Tokenizer.Encode(text, ids);
        return [.. ids];
    }

    /// <summary>
    /// Continues a text. The request enters the queue when the enumeration begins; each enumeration is a request of its own.
    /// </summary>
    /// <param name="request">What.</param>
    /// <param name="cancellationToken">Ends the request.</param>
    /// <returns>The new tokens as they come. The last one says why the text ends (<see cref="GeneratedToken.Stop"/>).</returns>
    /// <exception cref="ArgumentException">The prompt is empty, too long or holds an id that the model does not have; or an option, an
    /// SAE or a feature cannot be meant. Thrown at once.</exception>
    /// <exception cref="EngineBusyException">The limits allow no more requests. Thrown by the first MoveNextAsync before it
    /// waits.</exception>
    /// <exception cref="ObjectDisposedException">The engine was disposed, before or while the text was written.</exception>
    /// <exception cref="InvalidOperationException">The model gave values that are not numbers.</exception>
    /// <exception cref="TimeoutException">Nothing was read for <see cref="EngineOptions.ReaderTimeout"/> while the kept tokens were
    /// full.</exception>
    /// <exception cref="OperationCanceledException">Cancelled.</exception>
    public IAsyncEnumerable<GeneratedToken> GenerateAsync(GenerationRequest request, CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(request);
        ThrowIfDisposed();
        Require(request.Options, nameof(request.Options));
        Require(request.Options.Sampling, "Options.Sampling");
        RequireAll(request.Features, nameof(request.Features));
        int[] prompt = PromptOf(request.Prompt, request.PromptTokens);
        request.Options.Validate(Model.Config.VocabSize);
        if (request.Options.StopStrings is { Count: > 0 } && Tokenizer is null)
            throw new ArgumentException("Stop strings are found in the text, which needs a tokenizer; the model has none.");
        foreach (FeatureReport report in request.Features)
            SaeOf(report);
        EditsOf(request.Edits, request.Vectors);
        return StreamAsync(request, prompt, cancellationToken);
    }

    /// <summary>Reads a text and gives the features of each of its tokens.</summary>
    /// <param name="request">Which text, which features.</param>
    /// <param name="cancellationToken">Ends the request.</param>
    /// <returns>One entry for each token, BOS included.</returns>
    /// <exception cref="ArgumentException">As <see cref="GenerateAsync"/>.</exception>
    /// <exception cref="EngineBusyException">The limits allow no more requests.</exception>
    /// <exception cref="ObjectDisposedException">The engine was disposed.</exception>
    /// <exception cref="OperationCanceledException">Cancelled.</exception>
    public Task<IReadOnlyList<TokenFeatures>> FeaturesAsync(FeaturesRequest request, CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(request);
        ThrowIfDisposed();
        RequireAll(request.Features, nameof(request.Features));
        if (request.Features.Count == 0)
            throw new ArgumentException("No features are asked for; name an SAE in Features.");
        int[] prompt = PromptOf(request.Text, request.Tokens);
        EditStack edits = EditsOf(request.Edits, request.Vectors);
        return RunAsync(new FeatureSequence(Model, Tokenizer, TapsOf(request.Features), edits, prompt), cancellationToken);
    }

    /// <summary>Reads a text and gives the model's activations at hook points.</summary>
    /// <param name="request">Which text, which points.</param>
    /// <param name="cancellationToken">Ends the request.</param>
    /// <returns>For each point, [tokens · width], or [width] of the last token alone.</returns>
    /// <exception cref="ArgumentException">As <see cref="GenerateAsync"/>.</exception>
    /// <exception cref="EngineBusyException">The limits allow no more requests.</exception>
    /// <exception cref="ObjectDisposedException">The engine was disposed.</exception>
    /// <exception cref="OperationCanceledException">Cancelled.</exception>
    public Task<IReadOnlyList<float[]>> ActivationsAsync(ActivationsRequest request, CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(request);
        ThrowIfDisposed();
        Require(request.Points, nameof(request.Points));
        if (request.Points.Count == 0)
            throw new ArgumentException("No hook point is asked for; name one in Points.");
        foreach (HookPoint point in request.Points)
        {
            ModelSites.Require(Model.Config, point);
            if (HookPoint.IsOverKeys(point.Site))
                throw new ArgumentException($"{point} has one value for each head and key; its rows have no fixed width.");
            if (point.Site == Site.Logits)
                throw new ArgumentException("Logits are not activations that a text is read for.");
        }

        int[] prompt = PromptOf(request.Text, request.Tokens);
        return RunAsync(new ActivationSequence(Model, request.Points, request.LastTokenOnly, prompt), cancellationToken);
    }

    /// <summary>Turns a text into a vector.</summary>
    /// <param name="request">Which text, from which site.</param>
    /// <param name="cancellationToken">Ends the request.</param>
    /// <returns>One value for each of the site's.</returns>
    /// <exception cref="ArgumentException">As <see cref="GenerateAsync"/>.</exception>
    /// <exception cref="EngineBusyException">The limits allow no more requests.</exception>
    /// <exception cref="ObjectDisposedException">The engine was disposed.</exception>
    /// <exception cref="OperationCanceledException">Cancelled.</exception>
    public Task<float[]> EmbedAsync(EmbeddingRequest request, CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(request);
        ThrowIfDisposed();
        Require(request.Options, nameof(request.Options));
        if (!Enum.IsDefined(request.Options.Pooling))
            throw new ArgumentException($"There is no Pooling {(int)request.Options.Pooling}.");
        HookPoint site = TextEmbedding.SiteOf(request.Options);
        ModelSites.Require(Model.Config, site);
        int[] prompt = PromptOf(request.Text, request.Tokens);
        return RunAsync(new EmbeddingSequence(Model, site, request.Options, prompt), cancellationToken);
    }

    /// <summary>
    /// Ends every request with an <see cref="ObjectDisposedException"/> and gives everything back. It takes as long as a layer of the
    /// call that runs. Later calls wait for the first.
    /// </summary>
    /// <returns>Done when everything is given back.</returns>
    public ValueTask DisposeAsync()
    {
        GC.SuppressFinalize(this);
        lock (_gate)
            return new ValueTask(_disposal ??= CloseAsync());
    }

    /// <summary>As <see cref="DisposeAsync"/>, and waits.</summary>
    public void Dispose()
    {
        GC.SuppressFinalize(this);
        DisposeAsync().AsTask().GetAwaiter().GetResult();
    }

    private static KernelScopeEngine Open(EngineOptions options, IProgress<double>? progress, CancellationToken cancellationToken)
    {
        long started = Stopwatch.GetTimestamp();
        var logger = new GuardedLogger(options.LoggerFactory?.CreateLogger<KernelScopeEngine>() ?? (ILogger)NullLogger.Instance);
        EngineParts parts = EngineParts.Open(options, logger, progress, cancellationToken);
        logger.Opened(parts.ModelName, parts.Saes.Count, parts.Device.Name, Stopwatch.GetElapsedTime(started).TotalSeconds);
        try
        {
            return new KernelScopeEngine(parts, options, logger);
        }
        catch
        {
            parts.Dispose();
            throw;
        }
    }

    private async Task CloseAsync()
    {
        await _scheduler.DisposeAsync().ConfigureAwait(false);
        _parts.Dispose();
    }

    private async IAsyncEnumerable<GeneratedToken> StreamAsync(
        GenerationRequest request, int[] prompt, [EnumeratorCancellation] CancellationToken cancellationToken)
    {
        cancellationToken.ThrowIfCancellationRequested();
        using Activity? activity = Activities.StartActivity("kernelscope.generate");
        int context = (int)Math.Min(ContextLength, (long)prompt.Length + request.Options.MaxNewTokens);
        var sequence = new GenerationSequence(
            Model,
            request.Options,
            EditsOf(request.Edits, request.Vectors),
            TapsOf(request.Features),
            Tokenizer,
            prompt,
            context,
            _limits.BufferedTokens,
            _scheduler);
        _scheduler.Submit(sequence);
        try
        {
            await foreach (GeneratedToken token in sequence.ReadAsync(cancellationToken).ConfigureAwait(false))
                yield return token;
        }
        finally
        {
            _scheduler.Leave(sequence);
            activity?.SetTag("kernelscope.prompt_tokens", prompt.Length).SetTag("kernelscope.new_tokens", sequence.Count);
        }
    }

    private async Task<T> RunAsync<T>(PromptSequence<T> sequence, CancellationToken cancellationToken)
    {
        cancellationToken.ThrowIfCancellationRequested();
        using Activity? activity = Activities.StartActivity($"kernelscope.{sequence.Kind}");
        activity?.SetTag("kernelscope.prompt_tokens", sequence.Prompt.Length);
        _scheduler.Submit(sequence);
        try
        {
            return await sequence.Result.WaitAsync(cancellationToken).ConfigureAwait(false);
        }
        finally
        {
            _scheduler.Leave(sequence);
        }
    }

    private void ThrowIfDisposed() => ObjectDisposedException.ThrowIf(Volatile.Read(ref _disposal) is not null, this);

    private int[] PromptOf(string? text, ReadOnlyMemory<int> tokens)
    {
        if (text is null == tokens.IsEmpty)
            throw new ArgumentException(
                text is null ? "The prompt has no tokens; it needs at least BOS." : "Give a text or tokens, not both.");
        int[] prompt = text is null ? tokens.ToArray() : Encode(text);
        if (prompt.Length > ContextLength)
            throw new ArgumentException($"The prompt has {prompt.Length} tokens; the engine takes {ContextLength} (ContextLength).");
        foreach (int id in prompt)
        {
            if ((uint)id >= (uint)Model.Config.VocabSize)
                throw new ArgumentException($"Token id {id} is outside the vocabulary of {Model.Config.VocabSize} entries.");
        }

        return prompt;
    }

    private static void Require(object? member, string name)
    {
        if (member is null)
            throw new ArgumentException($"{name} of the request is null; leave it out for its default.");
    }

    private static void RequireAll<T>(IReadOnlyList<T> list, string name)
        where T : class
    {
        Require(list, name);
        if (list.Contains(null!))
            throw new ArgumentException($"{name} of the request has an entry that is null.");
    }

    private FeatureTap[] TapsOf(IReadOnlyList<FeatureReport> reports) => [.. reports.Select(r => new FeatureTap(SaeOf(r), r))];

    private EngineSae SaeOf(FeatureReport report)
    {
        report.Validate();
        return SaeOf(report.Sae);
    }

    private EngineSae SaeOf(string name)
    {
        if (name is not null && _parts.Saes.TryGetValue(name, out EngineSae? sae))
            return sae;
        string known = _parts.Saes.Count == 0 ? "none" : string.Join(", ", _parts.Saes.Keys);
        throw new ArgumentException($"The engine has no SAE '{name}'; it has {known}.");
    }

    private EditStack EditsOf(IReadOnlyList<SaeEdit> edits, IReadOnlyList<VectorEdit> vectors)
    {
        RequireAll(edits, "Edits");
        RequireAll(vectors, "Vectors");
        foreach (VectorEdit vector in vectors)
        {
            EditPlaces.Require(vector.Place);
            if (!Enum.IsDefined(vector.Method))
                throw new ArgumentException($"There is no VectorMethod {(int)vector.Method}.");
            if (vector.Method != VectorMethod.Add && !vector.Direction.Span.ContainsAnyExcept(0f))
                throw new ArgumentException($"The vector at {vector.Point} is zero, which no activation has a part along.");
            ModelSites.Require(Model.Config, vector.Point, vector.Direction.Length, "A vector has");
            if (!float.IsFinite(vector.Strength) || vector.Direction.Span.ContainsAnyExceptInRange(float.MinValue, float.MaxValue))
                throw new ArgumentException($"The vector at {vector.Point} or its strength holds a value that is not a finite number.");
        }

        return new EditStack([.. edits.Select(e => (SaeOf(e.Sae).Editable(e), e))], vectors, _parts.BosId);
    }
}
