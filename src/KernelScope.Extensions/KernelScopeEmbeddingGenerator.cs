using KernelScope.Hooks;
using KernelScope.Model;
using KernelScope.Runtime;
using Microsoft.Extensions.AI;

namespace KernelScope.Extensions;

/// <summary>An engine as an <see cref="IEmbeddingGenerator{TInput, TEmbedding}"/> of texts.</summary>
/// <remarks>
/// Safe for any number of threads. The engine belongs to whoever opened it. Texts go through the model one after the other.
/// <see cref="EmbeddingGenerationOptions.RawRepresentationFactory"/> may give other
/// <see cref="EmbeddingOptions"/>; Dimensions other than the site's width are refused with a <see cref="NotSupportedException"/>.
/// </remarks>
/// <example>
/// <code>
/// IEmbeddingGenerator&lt;string, Embedding&lt;float>> generator = new KernelScopeEmbeddingGenerator(engine);
/// GeneratedEmbeddings&lt;Embedding&lt;float>> vectors = await generator.GenerateAsync(["a harbour", "a port"]);
/// </code>
/// </example>
public sealed class KernelScopeEmbeddingGenerator : IEmbeddingGenerator<string, Embedding<float>>
{
    private readonly KernelScopeEngine _engine;
    private readonly EmbeddingOptions _options;
    private readonly EmbeddingGeneratorMetadata _metadata;

    /// <summary>Embeds texts with an engine's model.</summary>
    /// <param name="engine">The engine; its model has a tokenizer.</param>
    /// <param name="options">From which site and how; null: the mean of <c>final_norm</c>.</param>
    /// <exception cref="ArgumentException">The engine has no tokenizer.</exception>
    public KernelScopeEmbeddingGenerator(KernelScopeEngine engine, EmbeddingOptions? options = null)
    {
        ArgumentNullException.ThrowIfNull(engine);
        if (engine.Tokenizer is null)
            throw new ArgumentException("The engine's model has no tokenizer, which texts need.", nameof(engine));
        _engine = engine;
        _options = options ?? new EmbeddingOptions();
        _metadata = new EmbeddingGeneratorMetadata(
            "kernelscope", defaultModelId: engine.ModelName, defaultModelDimensions: Width(_options));
    }

    /// <inheritdoc/>
    /// <exception cref="NotSupportedException">Other dimensions than the site has.</exception>
    /// <exception cref="ArgumentException">A text that is null, without tokens that count, or longer than the engine's context; the message
    /// names its place among the texts.</exception>
    /// <exception cref="EngineBusyException">The engine takes no more requests now.</exception>
    public async Task<GeneratedEmbeddings<Embedding<float>>> GenerateAsync(
        IEnumerable<string> values, EmbeddingGenerationOptions? options = null, CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(values);
        EmbeddingOptions how = options?.RawRepresentationFactory?.Invoke(this) as EmbeddingOptions ?? _options;
        if (options?.Dimensions is int dimensions && dimensions != Width(how))
            throw new NotSupportedException($"Embeddings of {dimensions} dimensions were asked for; the site has {Width(how)}.");
        var embeddings = new GeneratedEmbeddings<Embedding<float>>();
        long tokens = 0;
        foreach (string value in values)
        {
            int[] ids;
            float[] vector;
            try
            {
                ids = _engine.Encode(value);
                var request = new EmbeddingRequest { Tokens = ids, Options = how };
                vector = await _engine.EmbedAsync(request, cancellationToken).ConfigureAwait(false);
            }
            catch (ArgumentException e)
            {
                throw new ArgumentException($"Text {embeddings.Count}: {e.Message}", e);
            }

            embeddings.Add(new Embedding<float>(vector) { CreatedAt = DateTimeOffset.UtcNow, ModelId = _engine.ModelName });
            tokens += ids.Length;
        }

        embeddings.Usage = new UsageDetails { InputTokenCount = tokens, TotalTokenCount = tokens };
        return embeddings;
    }

    /// <inheritdoc/>
    public object? GetService(Type serviceType, object? serviceKey = null)
    {
        ArgumentNullException.ThrowIfNull(serviceType);
        return serviceKey is not null ? null
            : serviceType == typeof(EmbeddingGeneratorMetadata) ? _metadata
            : serviceType == typeof(KernelScopeEngine) ? _engine
            : serviceType.IsInstanceOfType(this) ? this
            : null;
    }

    /// <summary>Does nothing: the engine belongs to whoever opened it.</summary>
    public void Dispose()
    {
    }

    private int Width(EmbeddingOptions options) => ModelSites.WidthOf(_engine.Model.Config, options.Site ?? new HookPoint(Site.FinalNorm));
}
