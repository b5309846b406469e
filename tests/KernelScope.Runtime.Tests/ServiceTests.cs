using KernelScope.Extensions;
using Microsoft.Extensions.AI;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Hosting;
using Microsoft.Extensions.Options;

namespace KernelScope.Runtime.Tests;

public class ServiceTests
{
    [Fact]
    public async Task A_container_gives_one_engine_and_closes_it()
    {
        KernelScopeEngine engine;
        await using (ServiceProvider provider = Services(UseDemo).BuildServiceProvider())
        {
            engine = provider.GetRequiredService<KernelScopeEngine>();
            Assert.Same(engine, provider.GetRequiredService<IChatClient>().GetService<KernelScopeEngine>());
            var embeddings = provider.GetRequiredService<IEmbeddingGenerator<string, Embedding<float>>>();
            Assert.Same(engine, embeddings.GetService<KernelScopeEngine>());
        }

        Assert.Throws<ObjectDisposedException>(() => engine.GenerateAsync(Engines.Request(1)));
    }

    [Fact]
    public void A_container_may_be_disposed_without_await()
    {
        using ServiceProvider provider = Services(UseDemo).BuildServiceProvider();
        Assert.NotNull(provider.GetRequiredService<KernelScopeEngine>());
    }

    [Fact]
    public async Task A_host_opens_the_engine_at_its_start_and_closes_it_at_its_stop()
    {
        HostApplicationBuilder builder = Host.CreateApplicationBuilder();
        builder.Services.AddKernelScope(UseDemo);
        using IHost host = builder.Build();
        await host.StartAsync();
        KernelScopeEngine engine = host.Services.GetRequiredService<KernelScopeEngine>();
        Task<List<Generation.GeneratedToken>> stream = engine.AllAsync(Engines.Request(1, newTokens: 400));
        await host.StopAsync();
        await Assert.ThrowsAsync<ObjectDisposedException>(() => stream);
        Assert.Throws<ObjectDisposedException>(() => engine.GenerateAsync(Engines.Request(1)));
    }

    [Fact]
    public async Task Options_that_cannot_be_meant_stop_the_start_of_a_host()
    {
        HostApplicationBuilder builder = Host.CreateApplicationBuilder();
        builder.Services.AddKernelScope(options => options.MaxRunning = 0);
        using IHost host = builder.Build();
        OptionsValidationException e = await Assert.ThrowsAsync<OptionsValidationException>(() => host.StartAsync());
        Assert.Contains("Give either Model", e.Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_model_that_is_not_there_stops_the_start_of_a_host()
    {
        HostApplicationBuilder builder = Host.CreateApplicationBuilder();
        builder.Services.AddKernelScope(options => options.Model = "no/such-model");
        using IHost host = builder.Build();
        InvalidDataException e = await Assert.ThrowsAsync<InvalidDataException>(() => host.StartAsync());
        Assert.Contains("no/such-model", e.Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_container_that_is_disposed_while_the_engine_opens_ends_the_opening()
    {
        using var opening = new ManualResetEventSlim();
        using var goOn = new ManualResetEventSlim();
        ServiceProvider provider = Services(options =>
        {
            UseDemo(options);
            options.Tokenizer = () =>
            {
                opening.Set();
                goOn.Wait();
                return Demo.OpenTokenizer();
            };
        }).BuildServiceProvider();
        Task<KernelScopeEngine> asked = Task.Run(provider.GetRequiredService<KernelScopeEngine>);
        opening.Wait();
        EngineHost host = provider.GetRequiredService<EngineHost>();
        ValueTask closing = host.DisposeAsync();
        goOn.Set();
        await closing;
        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => asked);
        await provider.DisposeAsync();
        await Assert.ThrowsAsync<ObjectDisposedException>(host.OpenAsync);
    }

    internal static void UseDemo(KernelScopeOptions options)
    {
        EngineOptions demo = Engines.Options();
        options.Checkpoint = demo.Checkpoint;
        options.Tokenizer = demo.Tokenizer;
        options.Device = demo.Device;
        options.Saes.Add(demo.Saes[0]);
    }

    private static ServiceCollection Services(Action<KernelScopeOptions> configure)
    {
        var services = new ServiceCollection();
        services.AddKernelScope(configure);
        return services;
    }
}
