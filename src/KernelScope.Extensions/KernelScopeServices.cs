using KernelScope.Runtime;
using Microsoft.Extensions.AI;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.DependencyInjection.Extensions;
using Microsoft.Extensions.Hosting;
using Microsoft.Extensions.Options;

namespace KernelScope.Extensions;

/// <summary>KernelScope in a service container.</summary>
/// <remarks>Any number of threads may call it.</remarks>
public static class KernelScopeServices
{
    /// <summary>
    /// Adds one engine, shared by all: <see cref="KernelScopeEngine"/>, <see cref="IChatClient"/> and
    /// <see cref="IEmbeddingGenerator{TInput, TEmbedding}"/> of strings. In a host it opens at the start
    /// (<see cref="KernelScopeOptions.OpenAtStart"/>) and closes first of all when the host stops; else it opens when one of them is
    /// asked for, and the container closes it.
    /// </summary>
    /// <param name="services">The container's services.</param>
    /// <param name="configure">Says which model, and everything else. Options that cannot be meant stop the host's start.</param>
    /// <returns>The services.</returns>
    /// <example>
    /// <code>
    /// builder.Services.AddKernelScope(options => options.Model = "google/gemma-2-2b-it");
    /// </code>
    /// </example>
    public static IServiceCollection AddKernelScope(this IServiceCollection services, Action<KernelScopeOptions> configure)
    {
        ArgumentNullException.ThrowIfNull(services);
        ArgumentNullException.ThrowIfNull(configure);
        services.AddOptions<KernelScopeOptions>().Configure(configure).ValidateOnStart();
        services.TryAddEnumerable(ServiceDescriptor.Singleton<IValidateOptions<KernelScopeOptions>, OptionsCheck>());
        services.TryAddSingleton<EngineHost>();
        services.TryAddEnumerable(ServiceDescriptor.Singleton<IHostedService, EngineService>());
        services.TryAddSingleton(s => s.GetRequiredService<EngineHost>().OpenAsync().GetAwaiter().GetResult());
        services.TryAddSingleton<IChatClient>(
            s => new KernelScopeChatClient(Engine(s), maxOutputTokens: s.GetRequiredService<EngineHost>().Options.MaxOutputTokens));
        services.TryAddSingleton<IEmbeddingGenerator<string, Embedding<float>>>(
            s => new KernelScopeEmbeddingGenerator(Engine(s), s.GetRequiredService<EngineHost>().Options.Embedding));
        return services;
    }

    private static KernelScopeEngine Engine(IServiceProvider services) => services.GetRequiredService<KernelScopeEngine>();

    /// <summary>Says of options that cannot be meant what is wrong with them.</summary>
    private sealed class OptionsCheck : IValidateOptions<KernelScopeOptions>
    {
        public ValidateOptionsResult Validate(string? name, KernelScopeOptions options)
        {
            try
            {
                options.Validate();
                return ValidateOptionsResult.Success;
            }
            catch (ArgumentException e)
            {
                return ValidateOptionsResult.Fail(e.Message);
            }
        }
    }
}
